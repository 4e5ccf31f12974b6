//! Dotted names below imported modules, each kept once and known by a number. Knows how names are
//! joined and what the policy says of modules, and nothing of variables.

use std::rc::Rc;

use foldhash::HashMap;

use crate::policy::{Policy, is_at_or_below};
use crate::scope::Symbol;

/// Most dotted parts of a name that are followed; no public name of torch has as many.
const MAX_PATH_PARTS: usize = 10;

/// Index of a dotted name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathId(u32);

impl PathId {
    /// Position in a list that has an entry for every dotted name.
    pub(crate) fn position(self) -> usize {
        self.0 as usize
    }
}

/// All dotted names that a file's expressions stand for.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    texts: Vec<Rc<str>>,
    numbers: HashMap<Rc<str>, PathId>,
    joined: HashMap<(PathId, Symbol), Option<PathId>>,
}

impl Paths {
    /// The number of a dotted name.
    pub(crate) fn intern(&mut self, text: &str) -> PathId {
        if let Some(&path) = self.numbers.get(text) {
            return path;
        }
        let path = PathId(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let text: Rc<str> = text.into();
        self.texts.push(Rc::clone(&text));
        self.numbers.insert(text, path);
        path
    }

    /// The number of a dotted name that has come up.
    pub(crate) fn number(&self, text: &str) -> Option<PathId> {
        self.numbers.get(text).copied()
    }

    /// The dotted name of a number.
    pub(crate) fn text(&self, path: PathId) -> &Rc<str> {
        &self.texts[path.position()]
    }

    /// All dotted names, in the order of their numbers.
    pub(crate) fn texts(&self) -> &[Rc<str>] {
        &self.texts
    }

    /// The name of an attribute of a module: `torch.nn.functional.torch` is `torch`, and
    /// `torch.os` is `os`. `None` when it has more parts than are followed.
    pub(crate) fn join(
        &mut self,
        policy: &Policy,
        base: PathId,
        attribute: Symbol,
        text: &str,
    ) -> Option<PathId> {
        if let Some(&path) = self.joined.get(&(base, attribute)) {
            return path;
        }
        let path = self.join_anew(policy, base, text);
        self.joined.insert((base, attribute), path);
        path
    }

    /// What a name that is written out stands for: `torch.os`, imported, is `os`. `None` when it has
    /// more parts than are followed.
    pub(crate) fn resolve(&mut self, policy: &Policy, text: &str) -> Option<PathId> {
        let mut parts = text.split('.');
        let mut path = self.intern(parts.next()?);
        for part in parts {
            path = self.join_anew(policy, path, part)?;
        }
        Some(path)
    }

    fn join_anew(&mut self, policy: &Policy, base: PathId, attribute: &str) -> Option<PathId> {
        let base = Rc::clone(self.text(base));
        let path = format!("{base}.{attribute}");
        let imports = &policy.imports;
        // Library modules keep modules under their own name, or hide them: `random._os`.
        let shown = attribute.trim_start_matches('_');
        if !base.starts_with("builtins.")
            && shown.len() < attribute.len()
            && !imports.refused.contains(attribute)
            && imports.refused.contains(shown)
        {
            return Some(self.intern(shown));
        }
        if !base.starts_with("builtins.")
            && (imports.refused.contains(attribute) || imports.allowed.contains(attribute))
            && !imports
                .allowed_paths
                .iter()
                .any(|allowed| is_at_or_below(&path, allowed))
        {
            return Some(self.intern(attribute));
        }
        if path.split('.').count() > MAX_PATH_PARTS {
            return None;
        }
        Some(self.intern(&path))
    }
}
