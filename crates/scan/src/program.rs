//! One parsed file with everything that rules may ask about it.

use std::rc::Rc;

use ruff_python_ast::{Expr, ModModule};
use ruff_text_size::TextRange;

use crate::fold::{FoldMemory, Folder, KnownTexts, known_texts};
use crate::index::{AttributeUse, ImportUse, Index, NameUse, index};
use crate::paths::PathId;
use crate::policy::{Policy, longest_match};
use crate::report::ScanOptions;
use crate::resolve::{Resolution, Value, Values, resolve};
use crate::scope::ScopeId;

/// A parsed file, its index and what its names stand for.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) options: &'a ScanOptions,
    pub(crate) module: &'a ModModule,
    pub(crate) index: Index<'a>,
    resolution: Resolution<'a>,
    memory: FoldMemory,
    pub(crate) texts: KnownTexts,
    /// Every attribute that stands for a dotted name, as its position in the index's list, with
    /// that name.
    dotted: Vec<(usize, PathId)>,
    /// Positions of the attributes that stand for more than can be followed.
    unbounded: Vec<usize>,
    /// The texts of all dotted names, by their numbers.
    path_texts: Vec<Rc<str>>,
}

impl<'a> Program<'a> {
    pub(crate) fn new(module: &'a ModModule, policy: &'a Policy, options: &'a ScanOptions) -> Self {
        let index = index(&module.body);
        let resolution = resolve(&index, policy);
        let memory = FoldMemory::new(&index);
        let texts = known_texts(&index, &resolution, &memory);
        let mut dotted = Vec::new();
        let mut unbounded = Vec::new();
        for (position, used) in index.attributes.iter().enumerate() {
            for value in resolution
                .values(&index, used.expression, used.scope)
                .iter()
            {
                match value {
                    Value::Path(path) => dotted.push((position, *path)),
                    Value::Unbounded => unbounded.push(position),
                    Value::Function(_) => {}
                }
            }
        }
        Self {
            policy,
            options,
            module,
            path_texts: resolution.path_texts(),
            index,
            resolution,
            memory,
            texts,
            dotted,
            unbounded,
        }
    }

    /// Folds constants of this file.
    pub(crate) fn folder(&self) -> Folder<'_, 'a> {
        Folder::new(&self.index, &self.resolution, &self.memory)
    }

    fn values(&self, expression: &Expr, scope: ScopeId) -> Values {
        self.resolution.values(&self.index, expression, scope)
    }

    /// The dotted names that an expression may stand for.
    pub(crate) fn paths(&self, expression: &Expr, scope: ScopeId) -> Vec<Rc<str>> {
        self.values(expression, scope)
            .iter()
            .filter_map(|value| match value {
                Value::Path(path) => Some(self.resolution.path_text(*path)),
                Value::Function(_) | Value::Unbounded => None,
            })
            .collect()
    }

    /// Whether an expression may stand for a certain dotted name.
    pub(crate) fn may_be(&self, expression: &Expr, scope: ScopeId, path: &str) -> bool {
        self.values(expression, scope).iter().any(
            |value| matches!(value, Value::Path(id) if &*self.resolution.path_text(*id) == path),
        )
    }

    /// The attributes whose own name is of a certain kind. Every name is judged once, however
    /// often it stands in the file.
    pub(crate) fn attributes_named<'p>(
        &'p self,
        mut is_wanted: impl FnMut(&str) -> bool,
    ) -> impl Iterator<Item = &'p AttributeUse<'a>> {
        let wanted: Vec<bool> = self
            .index
            .scopes
            .symbol_texts()
            .map(&mut is_wanted)
            .collect();
        let attributes = self.index.attributes.iter();
        attributes.filter(move |used| wanted.get(used.symbol.0 as usize) == Some(&true))
    }

    /// The names that are read and are of a certain kind; every name is judged once.
    pub(crate) fn names_of_kind<'p>(
        &'p self,
        mut is_wanted: impl FnMut(&str) -> bool,
    ) -> impl Iterator<Item = &'p NameUse<'a>> {
        let wanted: Vec<bool> = self
            .index
            .scopes
            .symbol_texts()
            .map(&mut is_wanted)
            .collect();
        let names = self.index.names.iter();
        names.filter(move |used| wanted.get(used.symbol.0 as usize) == Some(&true))
    }

    /// The attributes that may stand for a dotted name of a certain kind, with that name. Every
    /// dotted name is judged once.
    pub(crate) fn attributes_standing_for<'p>(
        &'p self,
        mut is_wanted: impl FnMut(&str) -> bool,
    ) -> impl Iterator<Item = (&'p AttributeUse<'a>, &'p str)> {
        let texts = self.path_texts.iter();
        let wanted: Vec<bool> = texts.map(|path| is_wanted(path)).collect();
        self.dotted
            .iter()
            .filter(move |(_, path)| wanted.get(path.position()) == Some(&true))
            .filter_map(|(position, path)| {
                let used = self.index.attributes.get(*position)?;
                Some((used, self.path_texts.get(path.position())?.as_ref()))
            })
    }

    /// The attributes that stand for more than can be followed.
    pub(crate) fn unbounded_attributes(&self) -> impl Iterator<Item = &AttributeUse<'a>> {
        let positions = self.unbounded.iter();
        positions.filter_map(|position| self.index.attributes.get(*position))
    }
}

impl Program<'_> {
    /// Every module or member that an absolute import statement names, with its place.
    ///
    /// `from a import b` names both `a` and `a.b`, since `b` may be a module. A member is left out
    /// when its module is refused already.
    pub(crate) fn imported_paths(&self) -> Vec<(String, TextRange)> {
        let mut paths = Vec::new();
        for import in &self.index.imports {
            match import {
                ImportUse::Module(alias) => {
                    paths.push((alias.name.to_string(), alias.range));
                }
                ImportUse::From(statement, alias) if statement.level == 0 => {
                    let Some(module) = &statement.module else {
                        continue;
                    };
                    paths.push((module.to_string(), module.range));
                    if longest_match(&self.policy.imports.refused, module.as_str()).is_none()
                        && longest_match(&self.policy.imports.allowed, module.as_str()).is_some()
                    {
                        paths.push((format!("{module}.{}", alias.name), alias.range));
                    }
                }
                ImportUse::From(..) => {}
            }
        }
        paths
    }
}
