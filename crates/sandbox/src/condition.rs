//! The `Condition` element: operators, quantifiers, `...IfExists`. Source: IAM user guide, "Condition operators".

use std::net::IpAddr;

use daypass_base::Timestamp;
use serde_json::{Map, Value};

use crate::fault::{Fault, Result};
use crate::policy::{Facts, arn_like, like, syntax};

/// One operator with one key and its values, any of which may fit.
#[derive(Debug)]
pub(crate) struct Condition {
    operator: Operator,
    negated: bool,
    quantifier: Quantifier,
    if_exists: bool,
    /// In lower case, as keys are compared without regard to case.
    key: String,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Arn,
    Bool,
    Date(Order),
    Ip,
    Null,
    Number(Order),
    Text,
    TextAnyCase,
    TextLike,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    AllValues,
    AnyValue,
    Single,
}

impl Condition {
    pub(crate) fn parse_all(blocks: &Map<String, Value>) -> Result<Vec<Self>> {
        let mut conditions = Vec::new();
        for (name, keys) in blocks {
            let Value::Object(keys) = keys else { return Err(syntax()) };
            for (key, values) in keys {
                conditions.push(Self::parse(name, key, values)?);
            }
        }
        Ok(conditions)
    }

    fn parse(name: &str, key: &str, values: &Value) -> Result<Self> {
        let (quantifier, rest) = if let Some(rest) = name.strip_prefix("ForAllValues:") {
            (Quantifier::AllValues, rest)
        } else if let Some(rest) = name.strip_prefix("ForAnyValue:") {
            (Quantifier::AnyValue, rest)
        } else {
            (Quantifier::Single, name)
        };
        let (if_exists, operator_name) = rest.strip_suffix("IfExists").map_or((false, rest), |operator| (true, operator));
        let (operator, negated) =
            operator(operator_name).ok_or_else(|| Fault::malformed_policy(format!("Invalid Condition type : {name}.")))?;
        let values = match values {
            Value::Array(list) => list.iter().map(scalar).collect::<Result<_>>()?,
            single => vec![scalar(single)?],
        };
        Ok(Self { operator, negated, quantifier, if_exists, key: key.to_ascii_lowercase(), values })
    }

    /// Whether it holds for `facts`; `fill` puts policy variables into values.
    pub(crate) fn holds(&self, facts: &dyn Facts, fill: &dyn Fn(&str) -> String) -> bool {
        let found = facts.values(&self.key);
        if self.operator == Operator::Null {
            return self.values.iter().any(|value| value.eq_ignore_ascii_case("true") == found.is_empty());
        }
        if found.is_empty() {
            // A key that is absent fits what is negated, and "all of none".
            return self.if_exists || self.quantifier == Quantifier::AllValues || (self.negated && self.quantifier == Quantifier::Single);
        }
        let one_fits = |have: &String| self.values.iter().any(|value| self.operator.fits(&fill(value), have)) != self.negated;
        match self.quantifier {
            Quantifier::AllValues => found.iter().all(one_fits),
            // A negated operator on a key with several values holds only when none of them fits.
            Quantifier::Single if self.negated => found.iter().all(one_fits),
            Quantifier::AnyValue | Quantifier::Single => found.iter().any(one_fits),
        }
    }
}

fn operator(name: &str) -> Option<(Operator, bool)> {
    use Operator::{Arn, Bool, Date, Ip, Null, Number, Text, TextAnyCase, TextLike};
    Some(match name {
        "ArnEquals" | "ArnLike" => (Arn, false),
        "ArnNotEquals" | "ArnNotLike" => (Arn, true),
        "Bool" => (Bool, false),
        "DateEquals" => (Date(Order::Equal), false),
        "DateGreaterThan" => (Date(Order::More), false),
        "DateGreaterThanEquals" => (Date(Order::MoreOrEqual), false),
        "DateLessThan" => (Date(Order::Less), false),
        "DateLessThanEquals" => (Date(Order::LessOrEqual), false),
        "DateNotEquals" => (Date(Order::Equal), true),
        "IpAddress" => (Ip, false),
        "NotIpAddress" => (Ip, true),
        "Null" => (Null, false),
        "NumericEquals" => (Number(Order::Equal), false),
        "NumericGreaterThan" => (Number(Order::More), false),
        "NumericGreaterThanEquals" => (Number(Order::MoreOrEqual), false),
        "NumericLessThan" => (Number(Order::Less), false),
        "NumericLessThanEquals" => (Number(Order::LessOrEqual), false),
        "NumericNotEquals" => (Number(Order::Equal), true),
        "StringEquals" => (Text, false),
        "StringEqualsIgnoreCase" => (TextAnyCase, false),
        "StringLike" => (TextLike, false),
        "StringNotEquals" => (Text, true),
        "StringNotEqualsIgnoreCase" => (TextAnyCase, true),
        "StringNotLike" => (TextLike, true),
        _ => return None,
    })
}

impl Operator {
    fn fits(self, wanted: &str, have: &str) -> bool {
        match self {
            Self::Arn => arn_like(wanted, have),
            Self::Bool | Self::TextAnyCase => wanted.eq_ignore_ascii_case(have),
            Self::Date(order) => moment(wanted).zip(moment(have)).is_some_and(|(wanted, have)| order.fits(&have, &wanted)),
            Self::Ip => in_network(wanted, have),
            Self::Null => false,
            Self::Number(order) => {
                wanted.parse::<f64>().ok().zip(have.parse::<f64>().ok()).is_some_and(|(wanted, have)| order.fits(&have, &wanted))
            }
            Self::Text => wanted == have,
            Self::TextLike => like(wanted, have),
        }
    }
}

impl Order {
    fn fits<T: PartialOrd>(self, have: &T, wanted: &T) -> bool {
        match self {
            Self::Equal => have == wanted,
            Self::Less => have < wanted,
            Self::LessOrEqual => have <= wanted,
            Self::More => have > wanted,
            Self::MoreOrEqual => have >= wanted,
        }
    }
}

/// RFC 3339 or seconds since 1970.
fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| text.parse().ok().map(Timestamp::from_seconds))
}

fn in_network(network: &str, address: &str) -> bool {
    let (base, length) = network.split_once('/').map_or((network, None), |(base, length)| (base, Some(length)));
    let (Ok(base), Ok(address)) = (base.parse::<IpAddr>(), address.parse::<IpAddr>()) else { return false };
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(four) => (u128::from(u32::from(four)) << 96, 32_u32),
        IpAddr::V6(six) => (u128::from(six), 128),
    };
    let ((base_bits, width), (address_bits, address_width)) = (bits(base), bits(address));
    let Ok(length) = length.map_or(Ok(width), str::parse::<u32>) else { return false };
    if width != address_width || length > width {
        return false;
    }
    length == 0 || (base_bits ^ address_bits) >> (128 - length) == 0
}

fn scalar(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(syntax()),
    }
}
