//! One parsed file with everything that rules may ask about it.

use std::rc::Rc;

use ruff_python_ast::{Expr, ModModule};
use ruff_text_size::TextRange;

use crate::fold::{FoldMemory, Folder, KnownTexts, known_texts};
use crate::index::{AttributeUse, ImportUse, Index, NameUse, index};
use crate::paths::{PathId, Paths};
use crate::policy::{Policy, Verdict};
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
    pub(crate) imported: Vec<Imported>,
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
        let mut index = index(&module.body);
        let resolution = resolve(&mut index, policy);
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
            imported: imported(&index, policy),
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
        let Some(path) = self.resolution.path_number(path) else {
            return false;
        };
        match (expression, self.index.symbol_of(expression)) {
            (Expr::Name(_), Some(name)) => {
                self.resolution.name_may_be(&self.index, name, scope, path)
            }
            _ => self.values(expression, scope).contains(&Value::Path(path)),
        }
    }

    /// By symbol, whether it is one of some names. Looks the names up in the file, not the file's
    /// in the names: a policy has fewer.
    fn marked<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<bool> {
        let scopes = &self.index.scopes;
        let mut marked = vec![false; scopes.symbol_count()];
        for name in names {
            if let Some(symbol) = scopes.known_symbol(name) {
                marked[symbol.0 as usize] = true;
            }
        }
        marked
    }

    /// The attributes whose own name is one of some names.
    pub(crate) fn attributes_named<'p, 'n>(
        &'p self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> impl Iterator<Item = &'p AttributeUse<'a>> {
        let marked = self.marked(names);
        let attributes = self.index.attributes.iter();
        attributes.filter(move |used| marked[used.symbol.0 as usize])
    }

    /// The names that are read and are one of some names.
    pub(crate) fn names_among<'p, 'n>(
        &'p self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> impl Iterator<Item = &'p NameUse<'a>> {
        let marked = self.marked(names);
        let used = self.index.names.iter();
        used.filter(move |used| marked[used.symbol.0 as usize])
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

/// A module or member that an absolute import statement names.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) path: String,
    pub(crate) range: TextRange,
    pub(crate) verdict: Verdict,
    /// Whether it was imported from a module, as a member of it.
    pub(crate) is_member: bool,
}

/// Every module or member that the absolute import statements of a file name.
///
/// `from a import b` names both `a` and `a.b`, since `b` may be a module. A member is left out
/// where its module is not allowed already.
fn imported(index: &Index<'_>, policy: &Policy) -> Vec<Imported> {
    let mut found = Vec::new();
    let mut paths = Paths::default();
    let mut add = |written: String, range, is_member| {
        // `from torch import os` imports what `torch.os` stands for.
        let resolved = paths.resolve(policy, &written);
        let path = resolved.map_or(written, |path| paths.text(path).to_string());
        let verdict = policy.imports.verdict(&path);
        found.push(Imported {
            path,
            range,
            verdict,
            is_member,
        });
        verdict
    };
    for import in &index.imports {
        match import {
            ImportUse::Module(alias) => {
                add(alias.name.to_string(), alias.range, false);
            }
            ImportUse::From(statement, alias) if statement.level == 0 => {
                if let Some(module) = &statement.module
                    && add(module.to_string(), module.range, false) == Verdict::Allowed
                {
                    add(format!("{module}.{}", alias.name), alias.range, true);
                }
            }
            ImportUse::From(..) => {}
        }
    }
    found
}
