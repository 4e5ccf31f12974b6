//! Scopes and the names bound in them, after Python's own rules: functions, lambdas and
//! comprehensions nest; a class body is seen by its own statements only; `global` and `nonlocal`
//! send a binding elsewhere.

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

/// Index of a scope; 0 is the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ScopeId(pub(crate) u32);

/// Index of a variable: one name in one scope, or one attribute name over all objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct VariableId(pub(crate) usize);

/// Index of a name. Every name is hashed once, where it stands; all else goes by this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Symbol(pub(crate) u32);

pub(crate) const MODULE: ScopeId = ScopeId(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScopeKind {
    Module,
    Class,
    Function,
    Comprehension,
}

#[derive(Debug)]
struct Scope {
    kind: ScopeKind,
    parent: Option<ScopeId>,
}

/// Everything that is kept for one name.
#[derive(Debug)]
struct Name<'a> {
    text: &'a str,
    /// The scopes that bind the name, in their order, with the variable of each. Most names are
    /// bound in one or two scopes, and looking here costs no hashing.
    variables: Vec<(ScopeId, VariableId)>,
    field: Option<VariableId>,
    /// Whether any scope declares the name `global` or `nonlocal`.
    is_declared: bool,
}

/// Where a name that is read may have been bound.
#[cfg(test)]
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) variables: Vec<VariableId>,
    /// Whether the name can also be the builtin of that name.
    pub(crate) builtin: bool,
}

/// All scopes of a file.
#[derive(Debug)]
pub(crate) struct Scopes<'a> {
    scopes: Vec<Scope>,
    variables: usize,
    symbols: HashMap<&'a str, Symbol>,
    names: Vec<Name<'a>>,
    globals: HashSet<(ScopeId, Symbol)>,
    nonlocals: HashSet<(ScopeId, Symbol)>,
}

impl<'a> Scopes<'a> {
    pub(crate) fn new() -> Self {
        let mut scopes = Self {
            scopes: Vec::new(),
            variables: 0,
            symbols: HashMap::new(),
            names: Vec::new(),
            globals: HashSet::new(),
            nonlocals: HashSet::new(),
        };
        scopes.push(ScopeKind::Module, None);
        scopes
    }

    fn push(&mut self, kind: ScopeKind, parent: Option<ScopeId>) -> ScopeId {
        // A scope takes bytes of the source, whose length fits.
        let id = ScopeId(u32::try_from(self.scopes.len()).unwrap_or(u32::MAX));
        self.scopes.push(Scope { kind, parent });
        id
    }

    pub(crate) fn open(&mut self, kind: ScopeKind, parent: ScopeId) -> ScopeId {
        self.push(kind, Some(parent))
    }

    /// The number of a name.
    pub(crate) fn symbol(&mut self, name: &'a str) -> Symbol {
        let next = Symbol(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        let symbol = *self.symbols.entry(name).or_insert(next);
        if symbol == next {
            self.names.push(Name {
                text: name,
                variables: Vec::new(),
                field: None,
                is_declared: false,
            });
        }
        symbol
    }

    /// The number of a name that stands somewhere in the file.
    pub(crate) fn known_symbol(&self, name: &str) -> Option<Symbol> {
        self.symbols.get(name).copied()
    }

    /// How many names there are.
    pub(crate) fn symbol_count(&self) -> usize {
        self.names.len()
    }

    /// The texts of all names, in the order of their numbers.
    pub(crate) fn symbol_texts(&self) -> impl Iterator<Item = &'a str> {
        self.names.iter().map(|name| name.text)
    }

    /// The text of a name.
    pub(crate) fn text(&self, symbol: Symbol) -> &'a str {
        self.names[symbol.0 as usize].text
    }

    pub(crate) fn variable_count(&self) -> usize {
        self.variables
    }

    fn scope(&self, scope: ScopeId) -> &Scope {
        &self.scopes[scope.0 as usize]
    }

    fn name(&mut self, symbol: Symbol) -> &mut Name<'a> {
        &mut self.names[symbol.0 as usize]
    }

    pub(crate) fn kind(&self, scope: ScopeId) -> ScopeKind {
        self.scope(scope).kind
    }

    /// The scope that encloses this one; the module encloses itself.
    pub(crate) fn parent(&self, scope: ScopeId) -> ScopeId {
        self.scope(scope).parent.unwrap_or(MODULE)
    }

    pub(crate) fn declare_global(&mut self, scope: ScopeId, name: Symbol) {
        self.globals.insert((scope, name));
        self.name(name).is_declared = true;
        self.variable(MODULE, name);
    }

    pub(crate) fn declare_nonlocal(&mut self, scope: ScopeId, name: Symbol) {
        self.nonlocals.insert((scope, name));
        self.name(name).is_declared = true;
    }

    /// A variable of no name: a function's return value.
    pub(crate) fn anonymous(&mut self) -> VariableId {
        self.variables += 1;
        VariableId(self.variables - 1)
    }

    fn variable_in(&self, scope: ScopeId, name: Symbol) -> Option<VariableId> {
        let variables = &self.names[name.0 as usize].variables;
        match variables.as_slice() {
            [] => None,
            [(only, variable)] => (*only == scope).then_some(*variable),
            _ => variables
                .binary_search_by_key(&scope, |(scope, _)| *scope)
                .ok()
                .map(|position| variables[position].1),
        }
    }

    fn variable(&mut self, scope: ScopeId, name: Symbol) -> VariableId {
        let variables = &self.names[name.0 as usize].variables;
        match variables.binary_search_by_key(&scope, |(scope, _)| *scope) {
            Ok(position) => variables[position].1,
            Err(position) => {
                let variable = self.anonymous();
                self.name(name)
                    .variables
                    .insert(position, (scope, variable));
                variable
            }
        }
    }

    /// The variable of an attribute name. Objects are not told apart: what is stored in an
    /// attribute of one object may be what is read from another.
    pub(crate) fn field(&mut self, name: Symbol) -> VariableId {
        if let Some(variable) = self.name(name).field {
            return variable;
        }
        let variable = self.anonymous();
        self.name(name).field = Some(variable);
        variable
    }

    pub(crate) fn field_if_stored(&self, name: Symbol) -> Option<VariableId> {
        self.names[name.0 as usize].field
    }

    fn is_global(&self, scope: ScopeId, name: Symbol) -> bool {
        self.names[name.0 as usize].is_declared && self.globals.contains(&(scope, name))
    }

    /// Binds a name in a scope, or where `global` and `nonlocal` say.
    pub(crate) fn bind(&mut self, scope: ScopeId, name: Symbol) -> VariableId {
        if self.is_global(scope, name) {
            return self.variable(MODULE, name);
        }
        if self.name(name).is_declared && self.nonlocals.contains(&(scope, name)) {
            let mut outer = self.scope(scope).parent;
            while let Some(id) = outer {
                if self.kind(id) == ScopeKind::Function
                    && let Some(variable) = self.variable_in(id, name)
                {
                    return variable;
                }
                outer = self.scope(id).parent;
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

    /// Where a name read in a scope may come from: hands every variable to `found`, the nearest
    /// first, and says whether the name can also be the builtin of that name.
    ///
    /// A name bound in the module or in a class body may still be unbound when it is read, and is
    /// then looked up further out; a name bound in a function cannot be.
    pub(crate) fn look_up(
        &self,
        scope: ScopeId,
        name: Symbol,
        mut found: impl FnMut(VariableId),
    ) -> bool {
        if self.names[name.0 as usize].variables.is_empty() {
            return true;
        }
        let mut current = Some(scope);
        let mut is_first = true;
        while let Some(id) = current {
            let here = self.scope(id);
            let is_visible = here.kind != ScopeKind::Class || is_first;
            let is_global = self.is_global(id, name);
            if is_visible
                && !is_global
                && let Some(variable) = self.variable_in(id, name)
            {
                found(variable);
                if matches!(here.kind, ScopeKind::Function | ScopeKind::Comprehension) {
                    return false;
                }
            }
            if here.kind != ScopeKind::Comprehension {
                is_first = false;
            }
            if is_global {
                if let Some(variable) = self.variable_in(MODULE, name) {
                    found(variable);
                }
                break;
            }
            current = here.parent;
        }
        true
    }

    /// The nearest variable that a name read in a scope may stand for.
    pub(crate) fn nearest(&self, scope: ScopeId, name: Symbol) -> Option<VariableId> {
        let mut nearest = None;
        self.look_up(scope, name, |variable| {
            nearest.get_or_insert(variable);
        });
        nearest
    }

    #[cfg(test)]
    fn lookup(&self, scope: ScopeId, name: Symbol) -> Lookup {
        let mut lookup = Lookup::default();
        lookup.builtin = self.look_up(scope, name, |variable| lookup.variables.push(variable));
        lookup
    }
}

#[cfg(test)]
mod tests {
    use super::{MODULE, ScopeKind, Scopes};

    #[test]
    fn a_function_hides_outer_names_and_the_builtin() {
        let mut scopes = Scopes::new();
        let name = scopes.symbol("input");
        let outer = scopes.bind(MODULE, name);
        let function = scopes.open(ScopeKind::Function, MODULE);
        let inner = scopes.bind(function, name);
        assert_eq!(scopes.lookup(function, name).variables, [inner]);
        assert!(!scopes.lookup(function, name).builtin);
        assert_eq!(scopes.lookup(MODULE, name).variables, [outer]);
        assert!(scopes.lookup(MODULE, name).builtin);
    }

    #[test]
    fn a_class_body_is_not_seen_by_its_methods() {
        let mut scopes = Scopes::new();
        let name = scopes.symbol("x");
        let class = scopes.open(ScopeKind::Class, MODULE);
        let field = scopes.bind(class, name);
        let method = scopes.open(ScopeKind::Function, class);
        assert_eq!(scopes.lookup(class, name).variables, [field]);
        assert!(scopes.lookup(method, name).variables.is_empty());
    }

    #[test]
    fn global_sends_a_binding_to_the_module() {
        let mut scopes = Scopes::new();
        let name = scopes.symbol("x");
        let function = scopes.open(ScopeKind::Function, MODULE);
        scopes.declare_global(function, name);
        let bound = scopes.bind(function, name);
        assert_eq!(scopes.lookup(MODULE, name).variables, [bound]);
        assert_eq!(scopes.lookup(function, name).variables, [bound]);
    }

    #[test]
    fn nonlocal_sends_a_binding_to_the_enclosing_function() {
        let mut scopes = Scopes::new();
        let name = scopes.symbol("x");
        let outer = scopes.open(ScopeKind::Function, MODULE);
        let variable = scopes.bind(outer, name);
        let inner = scopes.open(ScopeKind::Function, outer);
        scopes.declare_nonlocal(inner, name);
        assert_eq!(scopes.bind(inner, name), variable);
        assert_eq!(scopes.lookup(inner, name).variables, [variable]);
    }
}
