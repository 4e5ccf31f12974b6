//! The policy: which names the rules refuse, as data. It is TOML so that an operator can replace
//! it; this module reads and checks it and never decides anything about a submission.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

const BUILTIN: &str = include_str!("policy.toml");

/// Everything that the rules take from outside the program. Every key is required, so that a
/// policy file is complete and its meaning does not change with the program's version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Bounds on size and nesting.
    pub limits: Limits,
    /// What may be imported.
    pub imports: Imports,
    /// Builtins and dotted names that must not be used.
    pub names: Names,
    /// Attribute names that must not be used.
    pub attributes: Attributes,
    /// State of torch that must not be changed.
    pub torch: Torch,
    /// Names that must not be hidden in strings.
    pub strings: Strings,
}

/// Bounds on size and nesting; what exceeds one is refused before it is parsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Largest file, in bytes.
    pub max_source_bytes: usize,
    /// Most tokens in a file.
    pub max_tokens: usize,
    /// Most brackets (or f-strings) open at once; CPython itself stops at 200.
    pub max_bracket_depth: usize,
    /// Most blocks inside each other; CPython itself stops at 100.
    pub max_indentation: usize,
    /// Most operators, calls, attributes and operands linked into one expression.
    pub max_expression_length: usize,
    /// Most elements of one bytes literal.
    pub max_bytes_literal: usize,
}

/// What may be imported. A name stands for itself and for everything below it; the longest match
/// counts, and what no entry matches is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imports {
    /// Modules that may be imported.
    pub allowed: BTreeSet<String>,
    /// Modules that must not be imported, nor reached as an attribute of another module.
    pub refused: BTreeSet<String>,
    /// Dotted names that are allowed although their last part names a refused module.
    pub allowed_paths: BTreeSet<String>,
}

/// What the policy says about importing a dotted name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    Refused,
    Unlisted,
}

impl Imports {
    /// The longest entry that stands for a name decides; a refusal wins a tie.
    pub(crate) fn verdict(&self, path: &str) -> Verdict {
        let refused = longest_match(&self.refused, path).map(str::len);
        let allowed = longest_match(&self.allowed, path).map(str::len);
        match (refused, allowed) {
            (None, None) => Verdict::Unlisted,
            (None, Some(_)) => Verdict::Allowed,
            (Some(refused), Some(allowed)) if allowed > refused => Verdict::Allowed,
            (Some(_), _) => Verdict::Refused,
        }
    }
}

/// Builtins and dotted names that must not be called, nor referred to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// Builtins.
    pub refused_builtins: BTreeSet<String>,
    /// Dotted names below an imported module; each stands for everything below it too.
    pub refused_paths: BTreeSet<String>,
}

/// Attribute names that must not be used on any object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// Names with two underscores on each side that may be used; every other one is refused.
    pub allowed_dunders: BTreeSet<String>,
    /// Other names that are refused on every object.
    pub refused: BTreeSet<String>,
    /// Names that reach into the optimizer; `optimizer` itself may be used on `self`.
    pub optimizer_internals: BTreeSet<String>,
}

/// State of torch and of the model that must not be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Torch {
    /// Modules whose attributes must not be written, under any alias.
    pub protected_modules: BTreeSet<String>,
    /// Settings below a protected module that may be written; a trailing `.*` stands for
    /// everything below.
    pub writable: BTreeSet<String>,
    /// Whether `cudnn.deterministic = True` and `cudnn.benchmark = False`, exactly so, are
    /// accepted: they repeat what the worker has already set.
    pub allow_deterministic_cudnn: bool,
    /// Functions that change a backend setting, by the last part of their name.
    pub refused_setters: BTreeSet<String>,
    /// Functions that switch gradients off or on, by the last part of their name.
    pub gradient_switches: BTreeSet<String>,
    /// Attributes of the model's configuration that lower the work.
    pub model_configuration: BTreeSet<String>,
}

/// Names that must not be hidden in strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strings {
    /// Names that no string may spell, written out or put together.
    pub refused: BTreeSet<String>,
}

/// Why a policy could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text is no TOML, or a key is missing, unknown or of the wrong type.
    #[error("failed to read the scan policy")]
    Malformed(#[source] toml::de::Error),
    /// A bound that the scanner cannot keep its promises with.
    #[error("scan policy: limits.{key} is {value}, allowed is 1 to {maximum}")]
    LimitOutOfRange {
        /// Key below `limits`.
        key: &'static str,
        /// Value that was found.
        value: usize,
        /// Largest value that is safe.
        maximum: usize,
    },
}

impl Limits {
    /// The largest values for which the scanner's stack (see `lib.rs`) and its time are known to
    /// suffice.
    fn check(&self) -> Result<(), PolicyError> {
        let bounds = [
            ("max_source_bytes", self.max_source_bytes, 4_000_000),
            ("max_tokens", self.max_tokens, 2_000_000),
            ("max_bracket_depth", self.max_bracket_depth, 200),
            ("max_indentation", self.max_indentation, 100),
            ("max_expression_length", self.max_expression_length, 4_000),
            ("max_bytes_literal", self.max_bytes_literal, 1_000_000),
        ];
        for (key, value, maximum) in bounds {
            if value == 0 || value > maximum {
                return Err(PolicyError::LimitOutOfRange {
                    key,
                    value,
                    maximum,
                });
            }
        }
        Ok(())
    }
}

impl Policy {
    /// The policy that ships with the program.
    #[must_use]
    pub fn builtin() -> Self {
        static POLICY: OnceLock<Policy> = OnceLock::new();
        POLICY
            .get_or_init(|| match Self::from_toml(BUILTIN) {
                Ok(policy) => policy,
                // The embedded text is read by a test of this crate; it cannot fail here.
                Err(error) => unreachable!("the embedded policy does not read: {error}"),
            })
            .clone()
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// When the text is no TOML, when a key is missing, unknown or of the wrong type, and when a
    /// limit is outside what the scanner can keep to.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = toml::from_str(text).map_err(PolicyError::Malformed)?;
        policy.limits.check()?;
        Ok(policy)
    }

    /// The text of the policy that ships with the program, to start a new one from.
    #[must_use]
    pub fn builtin_toml() -> &'static str {
        BUILTIN
    }

    /// Whether an attribute name opens the interpreter, whatever object it is used on.
    pub(crate) fn refuses_attribute(&self, name: &str) -> bool {
        if is_dunder(name) {
            !self.attributes.allowed_dunders.contains(name)
        } else {
            self.attributes.refused.contains(name)
        }
    }
}

/// Whether a name has two underscores on each side.
pub(crate) fn is_dunder(name: &str) -> bool {
    name.len() > 4 && name.starts_with("__") && name.ends_with("__")
}

/// Whether `path` is `entry` or lies below it.
pub(crate) fn is_at_or_below(path: &str, entry: &str) -> bool {
    path.strip_prefix(entry)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The longest entry of a set that stands for `path`.
pub(crate) fn longest_match<'a>(entries: &'a BTreeSet<String>, path: &str) -> Option<&'a str> {
    let mut candidate = path;
    loop {
        if let Some(entry) = entries.get(candidate) {
            return Some(entry);
        }
        candidate = candidate.rsplit_once('.')?.0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Policy, PolicyError, longest_match};

    #[test]
    fn the_embedded_policy_reads() {
        let policy = Policy::from_toml(Policy::builtin_toml()).unwrap();
        assert_eq!(policy, Policy::builtin());
        assert_eq!(policy.limits.max_source_bytes, 500_000);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let text = format!("{}\nsurprise = 1\n", Policy::builtin_toml());
        let error = Policy::from_toml(&text).unwrap_err();
        assert!(
            matches!(error, PolicyError::Malformed(ref source) if source.to_string().contains("surprise"))
        );
    }

    #[test]
    fn a_missing_key_is_an_error_that_names_it() {
        let text = Policy::builtin_toml().replace("max_tokens", "#");
        let error = Policy::from_toml(&text).unwrap_err();
        assert!(
            matches!(error, PolicyError::Malformed(ref source) if source.to_string().contains("max_tokens"))
        );
    }

    #[test]
    fn a_limit_that_the_stack_cannot_keep_is_an_error() {
        let text = Policy::builtin_toml().replace(
            "max_expression_length = ",
            "max_expression_length = 90000 #",
        );
        assert!(matches!(
            Policy::from_toml(&text),
            Err(PolicyError::LimitOutOfRange {
                key: "max_expression_length",
                ..
            })
        ));
    }

    #[test]
    fn the_longest_entry_wins() {
        let entries = ["torch", "torch.utils.cpp_extension"]
            .map(str::to_owned)
            .into();
        assert_eq!(longest_match(&entries, "torch.utils.data"), Some("torch"));
        assert_eq!(
            longest_match(&entries, "torch.utils.cpp_extension.load"),
            Some("torch.utils.cpp_extension")
        );
        assert_eq!(longest_match(&entries, "torchvision"), None);
    }
}
