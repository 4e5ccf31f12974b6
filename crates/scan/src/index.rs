//! A flat index of the syntax tree: every name, attribute, call, string and binding with the scope
//! it stands in, collected in one walk. Rules read these lists and never walk the tree themselves.

use std::rc::Rc;

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{
    Alias, Comprehension, Decorator, ExceptHandler, Expr, ExprAttribute, ExprCall, ExprContext,
    ExprName, ExprNamed, HasNodeIndex, Identifier, NodeIndex, Parameters, Pattern, Stmt,
    StmtImport, StmtImportFrom, TypeParam, WithItem,
};
use ruff_text_size::TextRange;

use crate::scope::{MODULE, ScopeId, ScopeKind, Scopes, Symbol, VariableId};

/// How a name is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindingKind {
    Import,
    ImportAs,
    FromImport,
    Assignment,
    Parameter,
    Function,
    Class,
    Except,
    Pattern,
    TypeParameter,
    Global,
    Delete,
}

impl BindingKind {
    /// Words that complete "`name` bound ...".
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Import => "by an import",
            Self::ImportAs => "by an import under another name",
            Self::FromImport => "by an import from a module",
            Self::Assignment => "by an assignment",
            Self::Parameter => "as a parameter",
            Self::Function => "as a function",
            Self::Class => "as a class",
            Self::Except => "by an except clause",
            Self::Pattern => "by a match pattern",
            Self::TypeParameter => "as a type parameter",
            Self::Global => "by a global or nonlocal declaration",
            Self::Delete => "by a deletion",
        }
    }
}

/// One place where a name is bound, declared or deleted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) name: &'a str,
    pub(crate) range: TextRange,
    pub(crate) scope: ScopeId,
    pub(crate) kind: BindingKind,
}

/// Where a variable takes its values from.
#[derive(Clone, Debug)]
pub(crate) enum Origin<'a> {
    /// A dotted name below an imported module.
    Path(String),
    /// Whatever an expression may be, or may hold.
    Expression(&'a Expr, ScopeId),
    /// Any element of what an expression may be.
    Element(&'a Expr, ScopeId),
    /// Something that an expression may hold, at any depth.
    Part(&'a Expr, ScopeId),
    /// What a target of an unpacking takes of another origin.
    Unpacked(Rc<Origin<'a>>, Place),
    /// A function of this file.
    Function(FunctionId),
    /// What calling a decorator gives.
    Decorated(&'a Expr, ScopeId),
    /// What another variable holds, with an operator applied.
    Augmented(&'a ruff_python_ast::StmtAugAssign, ScopeId),
}

impl<'a> Origin<'a> {
    /// The expression that the values come from, whole or in part.
    pub(crate) fn expression(&self) -> Option<(&'a Expr, ScopeId)> {
        match self {
            Self::Expression(expression, scope)
            | Self::Element(expression, scope)
            | Self::Part(expression, scope)
            | Self::Decorated(expression, scope) => Some((expression, *scope)),
            Self::Unpacked(whole, _) => whole.expression(),
            Self::Augmented(assign, scope) => Some((&assign.value, *scope)),
            Self::Path(_) | Self::Function(_) => None,
        }
    }

    /// Something that the origin holds, where it is not known what exactly.
    fn into_part(self) -> Self {
        match self.expression() {
            Some((expression, scope)) => Self::Part(expression, scope),
            None => self,
        }
    }
}

/// The place of a target in an unpacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    position: usize,
    targets: usize,
    starred: Option<usize>,
}

impl Place {
    /// The element that the target takes, counted from the end behind a starred target. `None`
    /// for the starred target itself, and where the numbers do not fit.
    pub(crate) fn pick<T>(self, values: &[T]) -> Option<&T> {
        match self.starred {
            None if values.len() == self.targets => values.get(self.position),
            None => None,
            Some(starred) if self.position < starred => values.get(self.position),
            Some(starred) if self.position > starred => {
                values.get((values.len() + self.position).checked_sub(self.targets)?)
            }
            Some(_) => None,
        }
    }
}

/// Index of a function or lambda of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FunctionId(pub(crate) u32);

/// The variables through which values enter and leave a function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) positional: Vec<VariableId>,
    /// Sorted by name.
    pub(crate) by_name: Vec<(Symbol, VariableId)>,
    pub(crate) rest: Vec<VariableId>,
    pub(crate) result: VariableId,
}

/// A name that is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameUse<'a> {
    pub(crate) expression: &'a Expr,
    pub(crate) name: &'a ExprName,
    pub(crate) symbol: Symbol,
    pub(crate) scope: ScopeId,
    /// Whether it stands before a dot, as `torch` in `torch.nn`.
    pub(crate) is_base: bool,
}

/// An attribute that is read, written or deleted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttributeUse<'a> {
    pub(crate) expression: &'a Expr,
    pub(crate) attribute: &'a ExprAttribute,
    /// The attribute's own name.
    pub(crate) symbol: Symbol,
    pub(crate) scope: ScopeId,
    /// The assigned value, where the attribute is the only target of a plain assignment.
    pub(crate) assigned: Option<&'a Expr>,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallUse<'a> {
    pub(crate) call: &'a ExprCall,
    pub(crate) scope: ScopeId,
}

/// An expression that may spell a string. Listed before the parts it is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextUse<'a> {
    pub(crate) expression: &'a Expr,
    pub(crate) scope: ScopeId,
    /// Position in the list of the nearest text that this one is a part of.
    pub(crate) parent: Option<usize>,
}

/// One alias of an import statement, with the module it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ImportUse<'a> {
    Module(&'a Alias),
    From(&'a StmtImportFrom, &'a Alias),
}

/// The index of one file.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    pub(crate) scopes: Scopes<'a>,
    pub(crate) bindings: Vec<Binding<'a>>,
    pub(crate) origins: Vec<(VariableId, Origin<'a>)>,
    pub(crate) functions: Vec<Function>,
    /// By the number of an expression: the symbol of a name or attribute, the function of a
    /// lambda, the scope of a comprehension.
    nodes: Vec<u32>,
    pub(crate) imports: Vec<ImportUse<'a>>,
    pub(crate) names: Vec<NameUse<'a>>,
    pub(crate) attributes: Vec<AttributeUse<'a>>,
    pub(crate) calls: Vec<CallUse<'a>>,
    pub(crate) texts: Vec<TextUse<'a>>,
    /// Attribute names read by class patterns: `case Point(x=0)` reads `x`.
    pub(crate) pattern_attributes: Vec<&'a Identifier>,
    pub(crate) classes: Vec<(&'a ruff_python_ast::StmtClassDef, ScopeId)>,
}

/// The number of an expression of the file, dense from 0; `None` for one that the index leaves
/// out.
pub(crate) fn number_of(expression: &Expr) -> Option<usize> {
    expression
        .node_index()
        .load()
        .as_u32()
        .map(|number| number as usize)
}

impl Index<'_> {
    /// How many expressions are numbered.
    pub(crate) fn expression_count(&self) -> usize {
        self.nodes.len()
    }

    fn node(&self, expression: &Expr) -> Option<u32> {
        self.nodes.get(number_of(expression)?).copied()
    }

    /// The symbol of an expression that is a name or an attribute.
    pub(crate) fn symbol_of(&self, expression: &Expr) -> Option<Symbol> {
        self.node(expression).map(Symbol)
    }

    /// The function that an expression is, when it is a lambda.
    pub(crate) fn function_of(&self, lambda: &Expr) -> Option<FunctionId> {
        self.node(lambda).map(FunctionId)
    }

    /// The scope that an expression opens, when it is a comprehension.
    pub(crate) fn scope_of(&self, comprehension: &Expr) -> Option<ScopeId> {
        self.node(comprehension).map(ScopeId)
    }

    /// What a function of the file takes and gives.
    pub(crate) fn function(&self, id: FunctionId) -> &Function {
        &self.functions[id.0 as usize]
    }
}

/// Collects the index of statements that stand at module level.
pub(crate) fn index<'a>(statements: impl IntoIterator<Item = &'a Stmt>) -> Index<'a> {
    let mut collector = Collector {
        index: Index {
            scopes: Scopes::new(),
            bindings: Vec::new(),
            origins: Vec::new(),
            functions: Vec::new(),
            nodes: Vec::new(),
            imports: Vec::new(),
            names: Vec::new(),
            attributes: Vec::new(),
            calls: Vec::new(),
            texts: Vec::new(),
            pattern_attributes: Vec::new(),
            classes: Vec::new(),
        },
        scope: MODULE,
        results: Vec::new(),
        enclosing_text: None,
        base_of_attribute: false,
        assigned: None,
    };
    for statement in statements {
        collector.visit_stmt(statement);
    }
    collector.index
}

struct Collector<'a> {
    index: Index<'a>,
    scope: ScopeId,
    /// The result variables of the functions that are open.
    results: Vec<VariableId>,
    /// The nearest enclosing text, as its position in the list.
    enclosing_text: Option<usize>,
    base_of_attribute: bool,
    assigned: Option<&'a Expr>,
}

impl<'a> Collector<'a> {
    fn bind(&mut self, name: &'a Identifier, kind: BindingKind, origin: Option<Origin<'a>>) {
        self.bind_name(name.as_str(), name.range, self.scope, kind, origin);
    }

    fn bind_name(
        &mut self,
        name: &'a str,
        range: TextRange,
        scope: ScopeId,
        kind: BindingKind,
        origin: Option<Origin<'a>>,
    ) {
        let symbol = self.index.scopes.symbol(name);
        let variable = self.index.scopes.bind(scope, symbol);
        self.index.bindings.push(Binding {
            name,
            range,
            scope,
            kind,
        });
        let Some(origin) = origin else {
            return;
        };
        // What a class body binds is reached as an attribute.
        if self.index.scopes.kind(scope) == ScopeKind::Class {
            let field = self.index.scopes.field(symbol);
            self.index.origins.push((field, origin.clone()));
        }
        self.index.origins.push((variable, origin));
    }

    fn declare(&mut self, name: &'a Identifier) {
        self.index.bindings.push(Binding {
            name: name.as_str(),
            range: name.range,
            scope: self.scope,
            kind: BindingKind::Global,
        });
    }

    /// Binds everything that a target names to what `value` is or holds. Parallel displays are
    /// taken apart pairwise; everything else is bound to the whole.
    fn bind_target(&mut self, target: &'a Expr, value: Option<Origin<'a>>) {
        match target {
            Expr::Name(name) => {
                let origin = value;
                self.bind_name(
                    name.id.as_str(),
                    name.range,
                    self.scope,
                    BindingKind::Assignment,
                    origin,
                );
            }
            Expr::Tuple(_) | Expr::List(_) => {
                let targets = elements(target).unwrap_or_default();
                let starred = targets.iter().position(Expr::is_starred_expr);
                let whole = value.map(Rc::new);
                for (position, target) in targets.iter().enumerate() {
                    let place = Place {
                        position,
                        targets: targets.len(),
                        starred,
                    };
                    let part = whole.as_ref().map(|whole| taken(whole, place));
                    self.bind_target(target, part);
                }
            }
            Expr::Starred(starred) => self.bind_target(&starred.value, value),
            Expr::Attribute(attribute) => {
                let field = self.field(attribute);
                if let Some(origin) = value {
                    self.index.origins.push((field, origin));
                }
            }
            Expr::Subscript(subscript) => {
                if let Some(origin) = value {
                    self.hold(&subscript.value, origin);
                }
            }
            _ => {}
        }
    }

    fn field(&mut self, attribute: &'a ExprAttribute) -> VariableId {
        let symbol = self.index.scopes.symbol(attribute.attr.as_str());
        self.index.scopes.field(symbol)
    }

    /// Gives an expression its number and keeps what is known of it.
    fn number(&mut self, expression: &'a Expr, known: u32) {
        // An expression takes bytes of the source, whose length fits.
        if let Ok(number) = u32::try_from(self.index.nodes.len()) {
            expression.node_index().set(NodeIndex::from(number));
            self.index.nodes.push(known);
        }
    }

    /// Notes that the object that `holder` names now holds `value`.
    fn hold(&mut self, holder: &'a Expr, origin: Origin<'a>) {
        let variable = match holder {
            Expr::Name(name) => {
                let symbol = self.index.scopes.symbol(name.id.as_str());
                match self.index.scopes.nearest(self.scope, symbol) {
                    Some(variable) => variable,
                    None => self.index.scopes.bind(MODULE, symbol),
                }
            }
            Expr::Attribute(attribute) => self.field(attribute),
            _ => return,
        };
        self.index.origins.push((variable, origin.into_part()));
    }

    fn within(&mut self, scope: ScopeId, visit: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.scope, scope);
        visit(self);
        self.scope = outer;
    }

    /// Opens a function: binds its parameters, then visits its body in the new scope.
    fn function(
        &mut self,
        parameters: Option<&'a Parameters>,
        scope: ScopeId,
        visit: impl FnOnce(&mut Self),
    ) -> FunctionId {
        let outer = self.scope;
        let result = self.index.scopes.anonymous();
        let mut function = Function {
            positional: Vec::new(),
            by_name: Vec::new(),
            rest: Vec::new(),
            result,
        };
        self.scope = scope;
        if let Some(parameters) = parameters {
            for parameter in &parameters.kwonlyargs {
                let name = &parameter.parameter.name;
                let origin = parameter
                    .default
                    .as_deref()
                    .map(|default| Origin::Expression(default, outer));
                self.bind(name, BindingKind::Parameter, origin);
                let symbol = self.index.scopes.symbol(name.as_str());
                let variable = self.index.scopes.bind(scope, symbol);
                function.by_name.push((symbol, variable));
            }
            for parameter in parameters.posonlyargs.iter().chain(&parameters.args) {
                let name = &parameter.parameter.name;
                let origin = parameter
                    .default
                    .as_deref()
                    .map(|default| Origin::Expression(default, outer));
                self.bind(name, BindingKind::Parameter, origin);
                let symbol = self.index.scopes.symbol(name.as_str());
                let variable = self.index.scopes.bind(scope, symbol);
                function.positional.push(variable);
                function.by_name.push((symbol, variable));
            }
            for parameter in parameters.vararg.iter().chain(&parameters.kwarg) {
                self.bind(&parameter.name, BindingKind::Parameter, None);
                let symbol = self.index.scopes.symbol(parameter.name.as_str());
                function.rest.push(self.index.scopes.bind(scope, symbol));
            }
        }
        function.by_name.sort_unstable();
        let id = FunctionId(u32::try_from(self.index.functions.len()).unwrap_or(u32::MAX));
        self.index.functions.push(function);
        self.results.push(result);
        visit(self);
        self.results.pop();
        self.scope = outer;
        id
    }

    fn result(&mut self, value: &'a Expr) {
        if let Some(&result) = self.results.last() {
            self.index
                .origins
                .push((result, Origin::Expression(value, self.scope)));
        }
    }

    fn comprehension(
        &mut self,
        expression: &'a Expr,
        generators: &'a [Comprehension],
        visit: impl FnOnce(&mut Self),
    ) {
        // The first iterable is evaluated where the comprehension stands.
        if let Some(first) = generators.first() {
            self.visit_expr(&first.iter);
        }
        let outer = self.scope;
        let scope = self.index.scopes.open(ScopeKind::Comprehension, outer);
        self.number(expression, scope.0);
        self.within(scope, |this| {
            for (position, generator) in generators.iter().enumerate() {
                let iterated_in = if position == 0 { outer } else { scope };
                if position > 0 {
                    this.visit_expr(&generator.iter);
                }
                this.visit_expr(&generator.target);
                this.bind_target(
                    &generator.target,
                    Some(Origin::Element(&generator.iter, iterated_in)),
                );
                for condition in &generator.ifs {
                    this.visit_expr(condition);
                }
            }
            visit(this);
        });
    }

    fn import(&mut self, import: &'a StmtImport) {
        for alias in &import.names {
            self.index.imports.push(ImportUse::Module(alias));
            let module = alias.name.as_str();
            match &alias.asname {
                Some(name) => {
                    let origin = Origin::Path(module.to_owned());
                    self.bind(name, BindingKind::ImportAs, Some(origin));
                }
                None => {
                    let top = module.split('.').next().unwrap_or(module);
                    self.bind_name(
                        top,
                        alias.name.range,
                        self.scope,
                        BindingKind::Import,
                        Some(Origin::Path(top.to_owned())),
                    );
                }
            }
        }
    }

    fn import_from(&mut self, import: &'a StmtImportFrom) {
        for alias in &import.names {
            self.index.imports.push(ImportUse::From(import, alias));
            if alias.name.as_str() == "*" {
                continue;
            }
            let module = import.module.as_ref().map_or("", Identifier::as_str);
            let origin = Origin::Path(format!("{module}.{}", alias.name));
            let name = alias.asname.as_ref().unwrap_or(&alias.name);
            self.bind(name, BindingKind::FromImport, Some(origin));
        }
    }

    fn class(&mut self, class: &'a ruff_python_ast::StmtClassDef) {
        self.index.classes.push((class, self.scope));
        for decorator in &class.decorator_list {
            self.visit_decorator(decorator);
        }
        self.bind(&class.name, BindingKind::Class, None);
        self.decorate(&class.name, &class.decorator_list);
        let outer = self.scope;
        let around = match &class.type_params {
            Some(_) => self.index.scopes.open(ScopeKind::Function, outer),
            None => outer,
        };
        self.within(around, |this| {
            if let Some(type_params) = &class.type_params {
                this.visit_type_params(type_params);
            }
            if let Some(arguments) = &class.arguments {
                this.visit_arguments(arguments);
            }
            let scope = this.index.scopes.open(ScopeKind::Class, around);
            this.within(scope, |this| this.visit_body(&class.body));
        });
    }

    fn function_definition(&mut self, definition: &'a ruff_python_ast::StmtFunctionDef) {
        for decorator in &definition.decorator_list {
            self.visit_decorator(decorator);
        }
        let outer = self.scope;
        let around = match &definition.type_params {
            Some(_) => self.index.scopes.open(ScopeKind::Function, outer),
            None => outer,
        };
        let mut id = None;
        self.within(around, |this| {
            if let Some(type_params) = &definition.type_params {
                this.visit_type_params(type_params);
            }
            this.visit_parameters(&definition.parameters);
            if let Some(returns) = &definition.returns {
                this.visit_annotation(returns);
            }
            let scope = this.index.scopes.open(ScopeKind::Function, around);
            id = Some(this.function(Some(&definition.parameters), scope, |this| {
                this.visit_body(&definition.body);
            }));
        });
        self.bind(
            &definition.name,
            BindingKind::Function,
            id.map(Origin::Function),
        );
        self.decorate(&definition.name, &definition.decorator_list);
    }

    /// What a decorator gives takes the place of what it decorates.
    fn decorate(&mut self, name: &'a Identifier, decorators: &'a [Decorator]) {
        let symbol = self.index.scopes.symbol(name.as_str());
        let variable = self.index.scopes.bind(self.scope, symbol);
        let is_field = self.index.scopes.kind(self.scope) == ScopeKind::Class;
        let field = is_field.then(|| self.index.scopes.field(symbol));
        for decorator in decorators {
            let origin = Origin::Decorated(&decorator.expression, self.scope);
            let origins = &mut self.index.origins;
            origins.extend(field.map(|field| (field, origin.clone())));
            origins.push((variable, origin));
        }
    }

    fn list_text(&mut self, expression: &'a Expr) -> usize {
        self.index.texts.push(TextUse {
            expression,
            scope: self.scope,
            parent: self.enclosing_text,
        });
        self.index.texts.len() - 1
    }

    /// Lists a text, then visits its parts as parts of it.
    fn as_text(&mut self, expression: &'a Expr) {
        let position = self.list_text(expression);
        let outer = self.enclosing_text.replace(position);
        visitor::walk_expr(self, expression);
        self.enclosing_text = outer;
    }

    fn call(&mut self, call: &'a ExprCall) {
        self.index.calls.push(CallUse {
            call,
            scope: self.scope,
        });
        if let Expr::Attribute(attribute) = call.func.as_ref()
            && STORING_METHODS.contains(&attribute.attr.as_str())
        {
            for argument in &call.arguments.args {
                self.hold(&attribute.value, Origin::Expression(argument, self.scope));
            }
        }
        let function = match call.func.as_ref() {
            Expr::Attribute(attribute) => attribute.attr.as_str(),
            Expr::Name(name) => name.id.as_str(),
            _ => "",
        };
        if let [holder, held @ ..] = call.arguments.args.as_ref()
            && STORING_FUNCTIONS.contains(&function)
        {
            for value in held {
                self.hold(holder, Origin::Expression(value, self.scope));
            }
        }
    }
}

/// Methods that put their arguments into the object they are called on.
const STORING_METHODS: [&str; 7] = [
    "add",
    "append",
    "appendleft",
    "extend",
    "insert",
    "setdefault",
    "update",
];

/// Library functions, of `heapq` and `bisect`, that put their other arguments into the first.
const STORING_FUNCTIONS: [&str; 6] = [
    "heappush",
    "heappushpop",
    "heapreplace",
    "insort",
    "insort_left",
    "insort_right",
];

/// What a target takes of a whole: the very element where the whole is a display.
fn taken<'a>(whole: &Rc<Origin<'a>>, place: Place) -> Origin<'a> {
    if let Origin::Expression(display, scope) = whole.as_ref()
        && let Some(values) = elements(display)
        && !values.iter().any(Expr::is_starred_expr)
        && let Some(part) = place.pick(values)
    {
        return Origin::Expression(part, *scope);
    }
    Origin::Unpacked(Rc::clone(whole), place)
}

fn elements(expression: &Expr) -> Option<&[Expr]> {
    match expression {
        Expr::Tuple(tuple) => Some(&tuple.elts),
        Expr::List(list) => Some(&list.elts),
        _ => None,
    }
}

impl<'a> Visitor<'a> for Collector<'a> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::FunctionDef(definition) => return self.function_definition(definition),
            Stmt::ClassDef(class) => return self.class(class),
            Stmt::Import(import) => self.import(import),
            Stmt::ImportFrom(import) => self.import_from(import),
            Stmt::Global(global) => {
                for name in &global.names {
                    self.declare(name);
                    let symbol = self.index.scopes.symbol(name.as_str());
                    self.index.scopes.declare_global(self.scope, symbol);
                }
            }
            Stmt::Nonlocal(nonlocal) => {
                for name in &nonlocal.names {
                    self.declare(name);
                    let symbol = self.index.scopes.symbol(name.as_str());
                    self.index.scopes.declare_nonlocal(self.scope, symbol);
                }
            }
            Stmt::Assign(assign) => {
                for target in &assign.targets {
                    self.bind_target(target, Some(Origin::Expression(&assign.value, self.scope)));
                }
                if let [Expr::Attribute(_)] = assign.targets.as_slice() {
                    self.visit_expr(&assign.value);
                    self.assigned = Some(&assign.value);
                    self.visit_expr(&assign.targets[0]);
                    return;
                }
            }
            Stmt::AugAssign(assign) => {
                if let Expr::Name(name) = assign.target.as_ref() {
                    self.bind_name(
                        name.id.as_str(),
                        name.range,
                        self.scope,
                        BindingKind::Assignment,
                        Some(Origin::Augmented(assign, self.scope)),
                    );
                } else {
                    self.bind_target(
                        &assign.target,
                        Some(Origin::Expression(&assign.value, self.scope)),
                    );
                }
            }
            Stmt::AnnAssign(assign) => {
                let value = assign
                    .value
                    .as_deref()
                    .map(|value| Origin::Expression(value, self.scope));
                if value.is_some() || !assign.target.is_attribute_expr() {
                    self.bind_target(&assign.target, value);
                }
            }
            Stmt::For(stmt) => {
                self.bind_target(&stmt.target, Some(Origin::Element(&stmt.iter, self.scope)));
            }
            Stmt::Delete(delete) => {
                for target in &delete.targets {
                    self.delete(target);
                }
            }
            Stmt::TypeAlias(alias) => {
                self.bind_target(
                    &alias.name,
                    Some(Origin::Expression(&alias.value, self.scope)),
                );
            }
            Stmt::Return(stmt) => {
                if let Some(value) = &stmt.value {
                    self.result(value);
                }
            }
            Stmt::Match(stmt) => {
                for case in &stmt.cases {
                    self.bind_pattern(&case.pattern, &stmt.subject);
                }
            }
            // A string that stands alone is a docstring: nothing can read it, since `__doc__` is
            // no allowed name.
            Stmt::Expr(stmt) if stmt.value.is_string_literal_expr() => return,
            _ => {}
        }
        visitor::walk_stmt(self, statement);
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        let is_base = std::mem::replace(&mut self.base_of_attribute, false);
        let assigned = self.assigned.take();
        match expression {
            Expr::Name(name) => {
                let symbol = self.index.scopes.symbol(name.id.as_str());
                self.number(expression, symbol.0);
                if name.ctx == ExprContext::Load {
                    self.index.names.push(NameUse {
                        expression,
                        name,
                        symbol,
                        scope: self.scope,
                        is_base,
                    });
                }
                return;
            }
            Expr::Attribute(attribute) => {
                let symbol = self.index.scopes.symbol(attribute.attr.as_str());
                self.number(expression, symbol.0);
                self.index.attributes.push(AttributeUse {
                    expression,
                    attribute,
                    symbol,
                    scope: self.scope,
                    assigned,
                });
                self.base_of_attribute = true;
                self.visit_expr(&attribute.value);
                self.base_of_attribute = false;
                return;
            }
            Expr::StringLiteral(_) | Expr::BytesLiteral(_) => {
                self.list_text(expression);
                return;
            }
            Expr::FString(_) | Expr::TString(_) | Expr::Subscript(_) | Expr::BinOp(_) => {
                self.number(expression, 0);
                return self.as_text(expression);
            }
            Expr::Call(call) => {
                self.number(expression, 0);
                self.call(call);
                return self.as_text(expression);
            }
            Expr::Named(named) => {
                self.number(expression, 0);
                self.walrus(named);
            }
            Expr::Lambda(lambda) => {
                if let Some(parameters) = &lambda.parameters {
                    self.visit_parameters(parameters);
                }
                let scope = self.index.scopes.open(ScopeKind::Function, self.scope);
                let id = self.function(lambda.parameters.as_deref(), scope, |this| {
                    this.result(&lambda.body);
                    let outer = this.enclosing_text.take();
                    this.visit_expr(&lambda.body);
                    this.enclosing_text = outer;
                });
                self.number(expression, id.0);
                return;
            }
            Expr::ListComp(comprehension) => {
                return self.comprehension(expression, &comprehension.generators, |this| {
                    this.visit_expr(&comprehension.elt);
                });
            }
            Expr::SetComp(comprehension) => {
                return self.comprehension(expression, &comprehension.generators, |this| {
                    this.visit_expr(&comprehension.elt);
                });
            }
            Expr::Generator(comprehension) => {
                return self.comprehension(expression, &comprehension.generators, |this| {
                    this.visit_expr(&comprehension.elt);
                });
            }
            Expr::DictComp(comprehension) => {
                return self.comprehension(expression, &comprehension.generators, |this| {
                    if let Some(key) = &comprehension.key {
                        this.visit_expr(key);
                    }
                    this.visit_expr(&comprehension.value);
                });
            }
            Expr::Yield(stmt) => {
                if let Some(value) = &stmt.value {
                    self.result(value);
                }
            }
            Expr::YieldFrom(stmt) => self.result(&stmt.value),
            Expr::UnaryOp(_)
            | Expr::BoolOp(_)
            | Expr::If(_)
            | Expr::Tuple(_)
            | Expr::List(_)
            | Expr::Dict(_) => self.number(expression, 0),
            _ => {}
        }
        visitor::walk_expr(self, expression);
    }

    fn visit_with_item(&mut self, item: &'a WithItem) {
        if let Some(target) = &item.optional_vars {
            self.bind_target(
                target,
                Some(Origin::Expression(&item.context_expr, self.scope)),
            );
        }
        visitor::walk_with_item(self, item);
    }

    fn visit_except_handler(&mut self, handler: &'a ExceptHandler) {
        let ExceptHandler::ExceptHandler(clause) = handler;
        if let Some(name) = &clause.name {
            self.bind(name, BindingKind::Except, None);
        }
        visitor::walk_except_handler(self, handler);
    }

    fn visit_type_param(&mut self, parameter: &'a TypeParam) {
        let name = match parameter {
            TypeParam::TypeVar(parameter) => &parameter.name,
            TypeParam::TypeVarTuple(parameter) => &parameter.name,
            TypeParam::ParamSpec(parameter) => &parameter.name,
        };
        self.bind(name, BindingKind::TypeParameter, None);
        visitor::walk_type_param(self, parameter);
    }
}

impl<'a> Collector<'a> {
    fn walrus(&mut self, named: &'a ExprNamed) {
        if let Expr::Name(name) = named.target.as_ref() {
            let scope = self.index.scopes.walrus_scope(self.scope);
            self.bind_name(
                name.id.as_str(),
                name.range,
                scope,
                BindingKind::Assignment,
                Some(Origin::Expression(&named.value, self.scope)),
            );
        }
    }

    fn delete(&mut self, target: &'a Expr) {
        match target {
            Expr::Name(name) => self.bind_name(
                name.id.as_str(),
                name.range,
                self.scope,
                BindingKind::Delete,
                None,
            ),
            Expr::Tuple(_) | Expr::List(_) => {
                for part in elements(target).unwrap_or_default() {
                    self.delete(part);
                }
            }
            _ => {}
        }
    }

    fn bind_pattern(&mut self, pattern: &'a Pattern, subject: &'a Expr) {
        let bind = |this: &mut Self, name: &'a Option<Identifier>| {
            if let Some(name) = name {
                let origin = Origin::Expression(subject, this.scope);
                this.bind(name, BindingKind::Pattern, Some(origin));
            }
        };
        match pattern {
            Pattern::MatchValue(_) | Pattern::MatchSingleton(_) => {}
            Pattern::MatchSequence(sequence) => {
                for part in &sequence.patterns {
                    self.bind_pattern(part, subject);
                }
            }
            Pattern::MatchMapping(mapping) => {
                for part in &mapping.patterns {
                    self.bind_pattern(part, subject);
                }
                bind(self, &mapping.rest);
            }
            Pattern::MatchClass(class) => {
                for part in &class.arguments.patterns {
                    self.bind_pattern(part, subject);
                }
                for keyword in &class.arguments.keywords {
                    self.index.pattern_attributes.push(&keyword.attr);
                    self.bind_pattern(&keyword.pattern, subject);
                }
            }
            Pattern::MatchStar(star) => bind(self, &star.name),
            Pattern::MatchAs(capture) => {
                if let Some(part) = &capture.pattern {
                    self.bind_pattern(part, subject);
                }
                bind(self, &capture.name);
            }
            Pattern::MatchOr(alternatives) => {
                for part in &alternatives.patterns {
                    self.bind_pattern(part, subject);
                }
            }
        }
    }
}
