//! Scopes and the names bound in them, after Python's own rules: functions, lambdas and
//! comprehensions nest; a class body is seen by its own statements only; `global` and `nonlocal`
//! send a binding elsewhere.

use std::collections::{HashMap, HashSet};

/// Index of a scope; 0 is the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ScopeId(pub(crate) usize);

/// Index of a variable: one name in one scope, or one attribute name over all objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct VariableId(pub(crate) usize);

pub(crate) const MODULE: ScopeId = ScopeId(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScopeKind {
    Module,
    Class,
    Function,
    Comprehension,
}

#[derive(Debug)]
struct Scope<'a> {
    kind: ScopeKind,
    parent: Option<ScopeId>,
    variables: HashMap<&'a str, VariableId>,
    globals: HashSet<&'a str>,
    nonlocals: HashSet<&'a str>,
}

/// Where a name that is read may have been bound.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) variables: Vec<VariableId>,
    /// Whether the name can also be the builtin of that name.
    pub(crate) builtin: bool,
}

/// All scopes of a file.
#[derive(Debug)]
pub(crate) struct Scopes<'a> {
    scopes: Vec<Scope<'a>>,
    variables: usize,
    fields: HashMap<&'a str, VariableId>,
}

impl<'a> Scopes<'a> {
    pub(crate) fn new() -> Self {
        let mut scopes = Self {
            scopes: Vec::new(),
            variables: 0,
            fields: HashMap::new(),
        };
        scopes.push(ScopeKind::Module, None);
        scopes
    }

    fn push(&mut self, kind: ScopeKind, parent: Option<ScopeId>) -> ScopeId {
        self.scopes.push(Scope {
            kind,
            parent,
            variables: HashMap::new(),
            globals: HashSet::new(),
            nonlocals: HashSet::new(),
        });
        ScopeId(self.scopes.len() - 1)
    }

    pub(crate) fn open(&mut self, kind: ScopeKind, parent: ScopeId) -> ScopeId {
        self.push(kind, Some(parent))
    }

    pub(crate) fn variable_count(&self) -> usize {
        self.variables
    }

    pub(crate) fn kind(&self, scope: ScopeId) -> ScopeKind {
        self.scopes[scope.0].kind
    }

    /// The scope that encloses this one; the module encloses itself.
    pub(crate) fn parent(&self, scope: ScopeId) -> ScopeId {
        self.scopes[scope.0].parent.unwrap_or(MODULE)
    }

    pub(crate) fn declare_global(&mut self, scope: ScopeId, name: &'a str) {
        self.scopes[scope.0].globals.insert(name);
        self.variable(MODULE, name);
    }

    pub(crate) fn declare_nonlocal(&mut self, scope: ScopeId, name: &'a str) {
        self.scopes[scope.0].nonlocals.insert(name);
    }

    /// A variable of no name: a function's return value.
    pub(crate) fn anonymous(&mut self) -> VariableId {
        self.variables += 1;
        VariableId(self.variables - 1)
    }

    fn variable(&mut self, scope: ScopeId, name: &'a str) -> VariableId {
        if let Some(&variable) = self.scopes[scope.0].variables.get(name) {
            return variable;
        }
        let variable = self.anonymous();
        self.scopes[scope.0].variables.insert(name, variable);
        variable
    }

    /// The variable of an attribute name. Objects are not told apart: what is stored in an
    /// attribute of one object may be what is read from another.
    pub(crate) fn field(&mut self, name: &'a str) -> VariableId {
        if let Some(&variable) = self.fields.get(name) {
            return variable;
        }
        let variable = self.anonymous();
        self.fields.insert(name, variable);
        variable
    }

    pub(crate) fn field_if_stored(&self, name: &str) -> Option<VariableId> {
        self.fields.get(name).copied()
    }

    /// Binds a name in a scope, or where `global` and `nonlocal` say.
    pub(crate) fn bind(&mut self, scope: ScopeId, name: &'a str) -> VariableId {
        if self.scopes[scope.0].globals.contains(name) {
            return self.variable(MODULE, name);
        }
        if self.scopes[scope.0].nonlocals.contains(name) {
            let mut outer = self.scopes[scope.0].parent;
            while let Some(id) = outer {
                if self.scopes[id.0].kind == ScopeKind::Function
                    && self.scopes[id.0].variables.contains_key(name)
                {
                    return self.variable(id, name);
                }
                outer = self.scopes[id.0].parent;
            }
        }
        self.variable(scope, name)
    }

    /// The scope in which `:=` binds: the nearest one that is no comprehension.
    pub(crate) fn walrus_scope(&self, mut scope: ScopeId) -> ScopeId {
        while self.kind(scope) == ScopeKind::Comprehension {
            scope = self.parent(scope);
        }
        scope
    }

    /// Where a name read in a scope may come from.
    ///
    /// A name bound in the module or in a class body may still be unbound when it is read, and is
    /// then looked up further out; a name bound in a function cannot be.
    pub(crate) fn lookup(&self, scope: ScopeId, name: &str) -> Lookup {
        let mut lookup = Lookup::default();
        let mut current = Some(scope);
        let mut is_first = true;
        while let Some(id) = current {
            let here = &self.scopes[id.0];
            let is_visible = here.kind != ScopeKind::Class || is_first;
            if is_visible
                && let Some(&variable) = here.variables.get(name)
                && !here.globals.contains(name)
            {
                lookup.variables.push(variable);
                if matches!(here.kind, ScopeKind::Function | ScopeKind::Comprehension) {
                    return lookup;
                }
            }
            if here.kind != ScopeKind::Comprehension {
                is_first = false;
            }
            if here.globals.contains(name) {
                if let Some(&variable) = self.scopes[MODULE.0].variables.get(name) {
                    lookup.variables.push(variable);
                }
                break;
            }
            current = here.parent;
        }
        lookup.builtin = true;
        lookup
    }
}

#[cfg(test)]
mod tests {
    use super::{MODULE, ScopeKind, Scopes};

    #[test]
    fn a_function_hides_outer_names_and_the_builtin() {
        let mut scopes = Scopes::new();
        let outer = scopes.bind(MODULE, "input");
        let function = scopes.open(ScopeKind::Function, MODULE);
        let inner = scopes.bind(function, "input");
        assert_eq!(scopes.lookup(function, "input").variables, [inner]);
        assert!(!scopes.lookup(function, "input").builtin);
        assert_eq!(scopes.lookup(MODULE, "input").variables, [outer]);
        assert!(scopes.lookup(MODULE, "input").builtin);
    }

    #[test]
    fn a_class_body_is_not_seen_by_its_methods() {
        let mut scopes = Scopes::new();
        let class = scopes.open(ScopeKind::Class, MODULE);
        let field = scopes.bind(class, "x");
        let method = scopes.open(ScopeKind::Function, class);
        assert_eq!(scopes.lookup(class, "x").variables, [field]);
        assert!(scopes.lookup(method, "x").variables.is_empty());
    }

    #[test]
    fn global_sends_a_binding_to_the_module() {
        let mut scopes = Scopes::new();
        let function = scopes.open(ScopeKind::Function, MODULE);
        scopes.declare_global(function, "x");
        let bound = scopes.bind(function, "x");
        assert_eq!(scopes.lookup(MODULE, "x").variables, [bound]);
        assert_eq!(scopes.lookup(function, "x").variables, [bound]);
    }

    #[test]
    fn nonlocal_sends_a_binding_to_the_enclosing_function() {
        let mut scopes = Scopes::new();
        let outer = scopes.open(ScopeKind::Function, MODULE);
        let variable = scopes.bind(outer, "x");
        let inner = scopes.open(ScopeKind::Function, outer);
        scopes.declare_nonlocal(inner, "x");
        assert_eq!(scopes.bind(inner, "x"), variable);
        assert_eq!(scopes.lookup(inner, "x").variables, [variable]);
    }
}
