//! Literals and what they come to when they are compared. Text is compared for being the same alone: what is less is the
//! collation's to say.

use super::super::super::tree::At;

/// Nesting of arithmetic that is followed.
const MAX_DEPTH: usize = 16;

/// A value that stands in the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Constant<'t> {
    Int(i128),
    Float(f64),
    Text(&'t str),
    Bool(bool),
    Null,
}

/// What a comparison of two values is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    Is(bool),
    Null,
    Unknown,
}

impl<'t> Constant<'t> {
    /// The value of an expression of literals; `None` if it is none, or not worth the thought.
    pub(super) fn of(at: At<'t>) -> Option<Self> {
        Self::within(at, 0)
    }

    fn within(at: At<'t>, depth: usize) -> Option<Self> {
        if depth > MAX_DEPTH {
            return None;
        }
        let deeper = depth.saturating_add(1);
        match at.kind() {
            "AConst" if at.flag("isnull") => Some(Self::Null),
            "AConst" => {
                let value = at.get("val")?;
                match value.kind() {
                    "Integer" => Some(Self::Int(value.int("ival").into())),
                    "Float" => {
                        let digits = value.text("fval");
                        digits.parse().map(Self::Int).or_else(|_| digits.parse().map(Self::Float)).ok()
                    }
                    "Boolean" => Some(Self::Bool(value.flag("boolval"))),
                    "String" => Some(Self::Text(value.text("sval"))),
                    _ => None,
                }
            }
            "TypeCast" => {
                let target = at.get("type_name")?;
                if target.get("array_bounds").is_some() {
                    return None;
                }
                let name = *target.names("names").last()?;
                Self::within(at.get("arg")?, deeper)?.cast(name)
            }
            "AExpr" => {
                let (left, right) = (at.get("lexpr"), Self::within(at.get("rexpr")?, deeper)?);
                let left = match left {
                    Some(left) => Some(Self::within(left, deeper)?),
                    None => None,
                };
                arithmetic(left, at.names("name").last()?, right)
            }
            _ => None,
        }
    }

    fn cast(self, name: &str) -> Option<Self> {
        match (name, self) {
            (_, Self::Null) => Some(Self::Null),
            ("bool", Self::Bool(_))
            | ("int2" | "int4" | "int8" | "numeric", Self::Int(_))
            | ("float4" | "float8" | "numeric", Self::Float(_))
            | ("text" | "varchar", Self::Text(_)) => Some(self),
            ("bool", Self::Text(text)) => match text.trim().to_ascii_lowercase().as_str() {
                "t" | "true" | "y" | "yes" | "on" | "1" => Some(Self::Bool(true)),
                "f" | "false" | "n" | "no" | "off" | "0" => Some(Self::Bool(false)),
                _ => None,
            },
            ("bool", Self::Int(number)) => Some(Self::Bool(number != 0)),
            ("int2" | "int4" | "int8" | "numeric", Self::Text(text)) => text.trim().parse().ok().map(Self::Int),
            _ => None,
        }
    }

    /// As a number, if it is one or a literal that becomes one beside a number.
    #[expect(clippy::cast_precision_loss, reason = "of numbers beyond 2^53 it is not told whether they are equal")]
    fn number(self) -> Option<f64> {
        const EXACT: i128 = 1 << 53;
        match self {
            Self::Int(number) if (-EXACT..=EXACT).contains(&number) => Some(number as f64),
            Self::Float(number) => Some(number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Int(_) | Self::Bool(_) | Self::Null => None,
        }
    }
}

/// Whole numbers alone: what comes out of others is the type's to say.
fn arithmetic<'t>(left: Option<Constant<'t>>, operator: &str, right: Constant<'t>) -> Option<Constant<'t>> {
    let (left, right) = match (left, right) {
        (None, Constant::Int(right)) => (0, right),
        (Some(Constant::Int(left)), Constant::Int(right)) => (left, right),
        (Some(Constant::Null), _) | (_, Constant::Null) if matches!(operator, "+" | "-" | "*" | "/" | "%") => {
            return Some(Constant::Null);
        }
        _ => return None,
    };
    match operator {
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "/" => left.checked_div(right),
        "%" => left.checked_rem(right),
        _ => None,
    }
    .map(Constant::Int)
}

impl Compared {
    /// `left operator right`.
    pub(super) fn of(left: At<'_>, operator: &str, right: At<'_>) -> Self {
        let compares = matches!(operator, "=" | "<>" | "<" | ">" | "<=" | ">=");
        let (left, right) = (Constant::of(left), Constant::of(right));
        if !compares || left.is_none() && right.is_none() {
            return Self::Unknown;
        }
        match (left, right) {
            (Some(Constant::Null), _) | (_, Some(Constant::Null)) => Self::Null,
            (Some(Constant::Text(left)), Some(Constant::Text(right))) => match (operator, left == right) {
                // Only a collation that is not deterministic takes different texts for the same.
                ("=" | "<=" | ">=", true) | ("<>", false) => Self::Is(true),
                ("<>" | "<" | ">", true) | ("=", false) => Self::Is(false),
                _ => Self::Unknown,
            },
            (Some(Constant::Bool(left)), Some(Constant::Bool(right))) => Self::Is(ordered(&left, operator, &right)),
            (Some(Constant::Int(left)), Some(Constant::Int(right))) => Self::Is(ordered(&left, operator, &right)),
            (Some(left), Some(right)) => match (left.number(), right.number()) {
                (Some(left), Some(right)) => Self::Is(ordered(&left, operator, &right)),
                _ => Self::Unknown,
            },
            (None, _) | (_, None) => Self::Unknown,
        }
    }
}

fn ordered<T: PartialOrd>(left: &T, operator: &str, right: &T) -> bool {
    match operator {
        "=" => left == right,
        "<>" => left != right,
        "<" => left < right,
        ">" => left > right,
        "<=" => left <= right,
        _ => left >= right,
    }
}
