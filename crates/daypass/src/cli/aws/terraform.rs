//! `aws policy-for -terraform`: the policies as resources.
//!
//! What Terraform refuses is no resource: labels are words that stand once, names are those that IAM takes, and a pattern is told as a value to be used.

use std::collections::BTreeSet;

use crate::show::value::Value;

/// The policies as Terraform's resources.
pub(super) fn resources(data: &Value) -> String {
    let mut resources = Vec::new();
    let mut labels = BTreeSet::new();
    for (field, value) in data.entries() {
        if field == "trust_policies" {
            resources.extend(value.entries().iter().map(|(arn, document)| trusting(arn, document, &mut labels)));
        } else if field == "oidc_provider" {
            resources.push(provider(value));
        } else if matches!(value, Value::Map(_)) {
            let (name, policy) = (field.replace('_', "-"), indented(value));
            resources.push(format!(
                "resource \"aws_iam_policy\" \"{field}\" {{\n  name   = \"daypass-{name}\"\n  policy = jsonencode({policy})\n}}"
            ));
        }
    }
    resources.join("\n\n")
}

/// The server as an identity provider of the account.
fn provider(data: &Value) -> String {
    let audiences = data.get("client_id_list").map(indented).unwrap_or_default();
    let url = quoted(data.text_at("url"));
    format!("resource \"aws_iam_openid_connect_provider\" \"daypass\" {{\n  url            = {url}\n  client_id_list = {audiences}\n}}")
}

fn trusting(arn: &str, document: &Value, labels: &mut BTreeSet<String>) -> String {
    let policy = indented(document);
    let Some(IamRole { account, path, name }) = IamRole::of(arn) else {
        // Account and role: what tells one such ARN from another.
        let label = unique(&arn.split(':').skip(4).fold("trust".to_owned(), |whole, part| format!("{whole}_{part}")), labels);
        return format!(
            "# {arn} is a pattern and no role that could be made here:\n# each role that it stands for needs this as its assume_role_policy.\nlocals {{\n  {label} = jsonencode({policy})\n}}"
        );
    };
    let label = unique(&format!("{name}_{account}"), labels);
    let path = path.map(|path| format!("  path               = {}\n", quoted(path))).unwrap_or_default();
    let name = quoted(name);
    format!(
        "# {arn}\nresource \"aws_iam_role\" \"{label}\" {{\n  name               = {name}\n{path}  assume_role_policy = jsonencode({policy})\n}}"
    )
}

/// What the ARN of one role says.
struct IamRole<'a> {
    account: &'a str,
    /// With its slashes, where it is not the root.
    path: Option<&'a str>,
    name: &'a str,
}

impl<'a> IamRole<'a> {
    /// `None` for what names several roles, or none that IAM could make. Source: IAM `CreateRole`.
    fn of(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let account = parts.nth(4).filter(|account| !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit()))?;
        let role = parts.next()?.strip_prefix("role")?;
        let (path, name) = role.split_at(role.rfind('/')? + 1);
        let taken = |c: char| c.is_ascii_alphanumeric() || "+=,.@-_".contains(c);
        let is_name = !name.is_empty() && name.chars().all(taken);
        // Paths may have more characters than these; a pattern is not told from such a path by anything else.
        let is_path = path.starts_with('/') && path.chars().all(|c| taken(c) || c == '/');
        (is_name && is_path).then_some(Self { account, path: Some(path).filter(|path| *path != "/"), name })
    }
}

/// A word that Terraform takes as a label, and that no other has.
fn unique(wanted: &str, labels: &mut BTreeSet<String>) -> String {
    let word: String = wanted.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' }).collect();
    let word = if word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') { word } else { format!("_{word}") };
    let mut label = word.clone();
    let mut number = 2;
    while !labels.insert(label.clone()) {
        label = format!("{word}_{number}");
        number += 1;
    }
    label
}

/// JSON is an expression of Terraform's, but for what begins a template in its texts: `${aws:username}` is IAM's.
fn indented(document: &Value) -> String {
    literal(&document.pretty()).replace('\n', "\n  ")
}

fn quoted(text: &str) -> String {
    literal(&Value::text(text).compact())
}

fn literal(json: &str) -> String {
    json.replace("${", "$${").replace("%{", "%%{")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(trust: &[&str]) -> String {
        let document = || Value::parse(r#"{"Effect":"Allow"}"#).unwrap();
        resources(&Value::map([("trust_policies", Value::map(trust.iter().map(|arn| (*arn, document()))))]))
    }

    fn labels(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix("resource \"aws_iam_role\" \"")?.split('"').next()).collect()
    }

    /// Story: of `role/ci/deploy` a role `deploy` was made at the root, which is another role; the same name in two accounts gave two resources of one label.
    #[test]
    fn a_role_keeps_its_path_and_its_label_is_its_own() {
        let text = of(&[
            "arn:aws:iam::111111111111:role/ci/deploy",
            "arn:aws:iam::222222222222:role/deploy",
            "arn:aws:iam::111111111111:role/2nd",
            "arn:aws:iam::111111111111:role/a.b",
            "arn:aws:iam::111111111111:role/a_b",
        ]);
        assert!(text.contains("  name               = \"deploy\"\n  path               = \"/ci/\"\n  assume_role_policy"), "{text}");
        assert_eq!(text.matches("path  ").count(), 1, "{text}");
        let wanted = ["deploy_111111111111", "deploy_222222222222", "_2nd_111111111111", "a_b_111111111111", "a_b_111111111111_2"];
        assert_eq!(labels(&text), wanted);
    }

    /// Story: a pattern became a role of that name, which IAM refuses: `team-*` is no name.
    #[test]
    fn a_pattern_is_told_and_no_role_is_made_of_it() {
        for arn in [
            "arn:aws:iam::111111111111:role/team-*",
            "arn:aws:iam::111111111111:role/{{identity.entity.name}}",
            "arn:aws:iam::*:role/ci",
            "arn:aws:iam::111111111111:role/*/ci",
            "*",
        ] {
            let text = of(&[arn]);
            assert!(labels(&text).is_empty() && text.starts_with(&format!("# {arn} is a pattern")), "{text}");
            assert!(text.contains("\nlocals {\n  trust") && text.contains("= jsonencode({"), "{text}");
        }
    }

    #[test]
    fn variables_of_iam_are_no_templates_of_terraform() {
        let document = Value::parse(r#"{"Resource":"arn:aws:iam::1:user/${aws:username}","x":"%{if"}"#).unwrap();
        let text = resources(&Value::map([("server_policy", document)]));
        assert!(text.contains("user/$${aws:username}") && text.contains("\"%%{if\""), "{text}");
    }
}
