//! One parsed file with everything that rules may ask about it.

use std::rc::Rc;

use ruff_python_ast::{Expr, ModModule};
use ruff_text_size::TextRange;

use crate::fold::{Folder, KnownTexts, known_texts};
use crate::index::{ImportUse, Index, index};
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
    pub(crate) texts: KnownTexts,
}

impl<'a> Program<'a> {
    pub(crate) fn new(module: &'a ModModule, policy: &'a Policy, options: &'a ScanOptions) -> Self {
        let index = index(module);
        let resolution = resolve(&index, policy);
        let texts = known_texts(&index, &resolution);
        Self {
            policy,
            options,
            module,
            index,
            resolution,
            texts,
        }
    }

    /// Folds constants of this file.
    pub(crate) fn folder(&self) -> Folder<'_, 'a> {
        Folder::new(&self.index, &self.resolution)
    }

    /// What an expression may stand for.
    pub(crate) fn values(&self, expression: &Expr, scope: ScopeId) -> Rc<Values> {
        self.resolution.values(&self.index, expression, scope)
    }

    /// The dotted names that an expression may stand for.
    pub(crate) fn paths(&self, expression: &Expr, scope: ScopeId) -> Vec<Rc<str>> {
        self.values(expression, scope)
            .iter()
            .filter_map(|value| match value {
                Value::Path(path) => Some(Rc::clone(path)),
                Value::Function(_) | Value::Unbounded => None,
            })
            .collect()
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
