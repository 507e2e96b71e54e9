//! Policies that every server has from the beginning.

/// The text of `default`, written when a server is initialised; operators may change it afterwards.
/// It grants what every login needs to look after itself, and nothing that reaches a secret of others.
pub const DEFAULT_POLICY: &str = r#"# What every token may do unless it was made without this policy. Change it with care:
# logins, agents and Terraform rely on these paths.

# Know itself, stay alive, and leave.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }

# Know what it may do.
path "sys/capabilities-self"        { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }

# Know the entity that it belongs to, by id and by name.
path "identity/entity/id/{{identity.entity.id}}"     { capabilities = ["read"] }
path "identity/entity/name/{{identity.entity.name}}" { capabilities = ["read"] }

# Look up and renew leases whose id it holds. The older path of renew stays for old clients.
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/renew"  { capabilities = ["update"] }
path "sys/renew"         { capabilities = ["update"] }

# A cubbyhole belongs to its token alone.
path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }

# Wrap what it has, look at wrapping tokens, and open them.
path "sys/wrapping/wrap"   { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }

# Hash texts.
path "sys/tools/hash"   { capabilities = ["update"] }
path "sys/tools/hash/*" { capabilities = ["update"] }

# Ask how a request for approval stands.
path "sys/control-group/request" { capabilities = ["update"] }

# Sign in to an application through an OIDC provider.
path "identity/oidc/provider/+/authorize" { capabilities = ["read", "update"] }
"#;

/// The text of `response-wrapping`, the only policy of wrapping tokens. It is not listed and cannot be changed.
pub const RESPONSE_WRAPPING_POLICY: &str = r#"path "cubbyhole/response"  { capabilities = ["create", "read"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }
"#;
