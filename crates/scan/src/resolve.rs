//! What names and expressions may stand for: dotted names below imported modules, builtins, and
//! functions of the file.
//!
//! Values flow through assignments, containers, arguments and results until nothing changes. The
//! order of statements is ignored and containers are not told from what they hold, so the answer
//! errs on the side of more meanings, never fewer, for the flows that it follows.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use ruff_python_ast::{Arguments, Expr, ExprCall};

use crate::builtins::is_builtin;
use crate::index::{FunctionId, Index, Origin};
use crate::policy::{Policy, is_at_or_below};
use crate::scope::{ScopeId, VariableId};

/// Most dotted parts of a name that are followed; no public name of torch has as many.
const MAX_PATH_PARTS: usize = 10;

/// Most meanings of one variable; the rule on too many meanings refuses what has more.
const MAX_MEANINGS: usize = 24;

/// One thing that an expression may stand for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Value {
    /// A dotted name below an imported module, or `builtins.NAME`.
    Path(Rc<str>),
    /// A function or lambda of the file.
    Function(FunctionId),
    /// More meanings, or a longer dotted name, than are followed.
    Unbounded,
}

pub(crate) type Values = BTreeSet<Value>;

/// Builtins that hand back, or hand out, what they are given.
const PASSING_BUILTINS: [&str; 18] = [
    "builtins.iter",
    "builtins.next",
    "builtins.zip",
    "builtins.enumerate",
    "builtins.reversed",
    "builtins.list",
    "builtins.tuple",
    "builtins.sorted",
    "builtins.dict",
    "builtins.set",
    "builtins.frozenset",
    "builtins.map",
    "builtins.filter",
    "builtins.max",
    "builtins.min",
    "builtins.staticmethod",
    "builtins.aiter",
    "builtins.anext",
];

/// Library functions that hand back, or hand out, what they are given; with all below them.
const PASSING_PATHS: [&str; 9] = [
    "itertools",
    "collections",
    "functools.partial",
    "functools.reduce",
    "functools.lru_cache",
    "functools.cache",
    "typing.cast",
    "contextlib.nullcontext",
    "dataclasses.field",
];

/// Methods that hand out what the object holds.
const HANDING_METHODS: [&str; 13] = [
    "__getitem__",
    "__iter__",
    "__next__",
    "copy",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "popleft",
    "setdefault",
    "values",
    "elements",
];

enum Constraint<'a> {
    Flow(VariableId, Origin<'a>),
    Call(&'a ExprCall, ScopeId),
}

/// The meanings of all variables of a file, and of any expression on demand.
#[derive(Debug)]
pub(crate) struct Resolution<'a> {
    policy: &'a Policy,
    /// Where every variable takes its values from, arguments of calls included.
    flows: HashMap<VariableId, Vec<Origin<'a>>>,
    variables: Vec<Values>,
    memory: RefCell<HashMap<*const Expr, Rc<Values>>>,
}

/// Follows all flows of a file to their end.
pub(crate) fn resolve<'a>(index: &Index<'a>, policy: &'a Policy) -> Resolution<'a> {
    let mut solver = Solver {
        index,
        resolution: Resolution {
            policy,
            flows: HashMap::new(),
            variables: vec![Values::new(); index.scopes.variable_count()],
            memory: RefCell::new(HashMap::new()),
        },
        constraints: Vec::new(),
        readers: vec![Vec::new(); index.scopes.variable_count()],
        queued: Vec::new(),
        linked: HashSet::new(),
    };
    for (variable, origin) in &index.origins {
        solver.add(Constraint::Flow(*variable, origin.clone()));
    }
    for call in &index.calls {
        solver.add(Constraint::Call(call.call, call.scope));
    }
    solver.solve();
    for constraint in solver.constraints {
        if let Constraint::Flow(variable, origin) = constraint {
            let flows = solver.resolution.flows.entry(variable).or_default();
            flows.push(origin);
        }
    }
    solver.resolution
}

struct Solver<'i, 'a> {
    index: &'i Index<'a>,
    resolution: Resolution<'a>,
    constraints: Vec<Constraint<'a>>,
    /// Per variable, the constraints that have read it.
    readers: Vec<Vec<usize>>,
    queued: Vec<usize>,
    /// Pairs of a call and a function whose arguments have been linked to parameters.
    linked: HashSet<(*const ExprCall, FunctionId)>,
}

impl<'a> Solver<'_, 'a> {
    fn add(&mut self, constraint: Constraint<'a>) {
        self.queued.push(self.constraints.len());
        self.constraints.push(constraint);
    }

    fn solve(&mut self) {
        while let Some(position) = self.queued.pop() {
            let mut reads = Vec::new();
            match &self.constraints[position] {
                Constraint::Flow(variable, origin) => {
                    let variable = *variable;
                    let values = match (origin, origin.expression()) {
                        (Origin::Path(path), _) => [Value::Path(path.as_str().into())].into(),
                        (Origin::Function(function), _) => [Value::Function(*function)].into(),
                        (_, Some((expression, scope))) => self
                            .resolution
                            .evaluate(self.index, expression, scope, &mut reads),
                        (_, None) => Values::new(),
                    };
                    self.note(position, &reads);
                    self.grow(variable, values);
                }
                Constraint::Call(call, scope) => {
                    let (call, scope) = (*call, *scope);
                    let callees = self
                        .resolution
                        .callees(self.index, &call.func, scope, &mut reads);
                    self.note(position, &reads);
                    for callee in callees {
                        if self.linked.insert((std::ptr::from_ref(call), callee)) {
                            self.link(call, scope, callee);
                        }
                    }
                }
            }
        }
    }

    fn note(&mut self, constraint: usize, reads: &[VariableId]) {
        for read in reads {
            let readers = &mut self.readers[read.0];
            if !readers.contains(&constraint) {
                readers.push(constraint);
            }
        }
    }

    fn grow(&mut self, variable: VariableId, values: Values) {
        let known = &mut self.resolution.variables[variable.0];
        let before = known.len();
        for value in values {
            if known.len() >= MAX_MEANINGS {
                known.insert(Value::Unbounded);
                break;
            }
            known.insert(value);
        }
        if known.len() != before {
            self.queued.extend_from_slice(&self.readers[variable.0]);
        }
    }

    /// Links the arguments of a call to the parameters of a function. A method may be called with
    /// or without its first argument written out, so both alignments are linked.
    fn link(&mut self, call: &'a ExprCall, scope: ScopeId, callee: FunctionId) {
        let function = &self.index.functions[callee.0];
        let is_method_call = call.func.is_attribute_expr();
        let mut flows = Vec::new();
        for (position, argument) in call.arguments.args.iter().enumerate() {
            let mut targets: Vec<VariableId> = Vec::new();
            if argument.is_starred_expr() {
                targets.extend(&function.positional);
            } else {
                targets.extend(function.positional.get(position));
                if is_method_call {
                    targets.extend(function.positional.get(position + 1));
                }
            }
            targets.extend(&function.rest);
            flows.extend(targets.into_iter().map(|target| (target, argument)));
        }
        for keyword in &call.arguments.keywords {
            match &keyword.arg {
                Some(name) => {
                    let target = function.by_name.get(name.as_str());
                    match target {
                        Some(target) => flows.push((*target, &keyword.value)),
                        None => flows
                            .extend(function.rest.iter().map(|target| (*target, &keyword.value))),
                    }
                }
                None => {
                    let all = function.by_name.values().chain(&function.rest);
                    flows.extend(all.map(|target| (*target, &keyword.value)));
                }
            }
        }
        for (variable, value) in flows {
            self.add(Constraint::Flow(variable, Origin::Expression(value, scope)));
        }
    }
}

impl Resolution<'_> {
    /// Where a variable takes its values from.
    pub(crate) fn flows(&self, variable: VariableId) -> &[Origin<'_>] {
        self.flows.get(&variable).map_or(&[], Vec::as_slice)
    }

    /// What an expression may stand for.
    pub(crate) fn values(
        &self,
        index: &Index<'_>,
        expression: &Expr,
        scope: ScopeId,
    ) -> Rc<Values> {
        let key = std::ptr::from_ref(expression);
        if let Some(values) = self.memory.borrow().get(&key) {
            return Rc::clone(values);
        }
        // Long chains are remembered link by link, so that asking for each of their links is
        // linear in all.
        let values = Rc::new(match expression {
            Expr::Attribute(attribute) => {
                let base = self.values(index, &attribute.value, scope);
                self.attribute(index, &base, attribute.attr.as_str(), &mut Vec::new())
            }
            _ => self.evaluate(index, expression, scope, &mut Vec::new()),
        });
        self.memory.borrow_mut().insert(key, Rc::clone(&values));
        values
    }

    /// The functions of the file that a callee may be.
    fn callees(
        &self,
        index: &Index<'_>,
        callee: &Expr,
        scope: ScopeId,
        reads: &mut Vec<VariableId>,
    ) -> Vec<FunctionId> {
        let values = match callee {
            Expr::Attribute(attribute) => {
                let field = index.scopes.field_if_stored(attribute.attr.as_str());
                self.read(field, reads)
            }
            Expr::Call(_) => Values::new(),
            _ => self.evaluate(index, callee, scope, reads),
        };
        values
            .into_iter()
            .filter_map(|value| match value {
                Value::Function(function) => Some(function),
                Value::Path(_) | Value::Unbounded => None,
            })
            .collect()
    }

    fn read(
        &self,
        variables: impl IntoIterator<Item = VariableId>,
        reads: &mut Vec<VariableId>,
    ) -> Values {
        let mut values = Values::new();
        for variable in variables {
            reads.push(variable);
            values.extend(self.variables[variable.0].iter().cloned());
        }
        values
    }

    fn attribute(
        &self,
        index: &Index<'_>,
        base: &Values,
        attribute: &str,
        reads: &mut Vec<VariableId>,
    ) -> Values {
        let mut values = self.read(index.scopes.field_if_stored(attribute), reads);
        for value in base {
            match value {
                Value::Path(path) => values.insert(self.join(path, attribute)),
                Value::Unbounded => values.insert(Value::Unbounded),
                Value::Function(_) => false,
            };
        }
        values
    }

    /// The name of an attribute of a module: `torch.nn.functional.torch` is `torch`, and
    /// `torch.os` is `os`.
    fn join(&self, base: &str, attribute: &str) -> Value {
        let path = format!("{base}.{attribute}");
        let imports = &self.policy.imports;
        if !base.starts_with("builtins.")
            && (imports.refused.contains(attribute) || imports.allowed.contains(attribute))
            && !imports
                .allowed_paths
                .iter()
                .any(|allowed| is_at_or_below(&path, allowed))
        {
            return Value::Path(attribute.into());
        }
        if path.split('.').count() > MAX_PATH_PARTS {
            return Value::Unbounded;
        }
        Value::Path(path.into())
    }

    fn evaluate(
        &self,
        index: &Index<'_>,
        expression: &Expr,
        scope: ScopeId,
        reads: &mut Vec<VariableId>,
    ) -> Values {
        match expression {
            Expr::Name(name) => {
                let lookup = index.scopes.lookup(scope, name.id.as_str());
                let is_builtin = lookup.builtin
                    && is_builtin(name.id.as_str())
                    && (lookup.variables.is_empty()
                        || self
                            .policy
                            .names
                            .refused_builtins
                            .contains(name.id.as_str()));
                let mut values = self.read(lookup.variables, reads);
                if is_builtin {
                    values.insert(Value::Path(format!("builtins.{}", name.id).into()));
                }
                values
            }
            Expr::Attribute(attribute) => {
                let base = self.evaluate(index, &attribute.value, scope, reads);
                self.attribute(index, &base, attribute.attr.as_str(), reads)
            }
            Expr::Call(call) => self.call(index, call, scope, reads),
            Expr::Named(named) => self.evaluate(index, &named.value, scope, reads),
            Expr::Starred(starred) => self.evaluate(index, &starred.value, scope, reads),
            Expr::Await(awaited) => self.evaluate(index, &awaited.value, scope, reads),
            Expr::Subscript(subscript) => self.evaluate(index, &subscript.value, scope, reads),
            Expr::If(choice) => {
                let mut values = self.evaluate(index, &choice.body, scope, reads);
                values.extend(self.evaluate(index, &choice.orelse, scope, reads));
                values
            }
            Expr::BoolOp(operation) => self.all(index, &operation.values, scope, reads),
            Expr::BinOp(operation) => {
                // Adding or repeating containers keeps what they hold.
                let mut values = self.evaluate(index, &operation.left, scope, reads);
                values.extend(self.evaluate(index, &operation.right, scope, reads));
                values
            }
            Expr::Tuple(tuple) => self.all(index, &tuple.elts, scope, reads),
            Expr::List(list) => self.all(index, &list.elts, scope, reads),
            Expr::Set(set) => self.all(index, &set.elts, scope, reads),
            Expr::Dict(dict) => {
                let mut values = Values::new();
                for item in &dict.items {
                    if let Some(key) = &item.key {
                        values.extend(self.evaluate(index, key, scope, reads));
                    }
                    values.extend(self.evaluate(index, &item.value, scope, reads));
                }
                values
            }
            Expr::ListComp(comprehension) => {
                let inner = comprehension_scope(index, expression, scope);
                self.evaluate(index, &comprehension.elt, inner, reads)
            }
            Expr::SetComp(comprehension) => {
                let inner = comprehension_scope(index, expression, scope);
                self.evaluate(index, &comprehension.elt, inner, reads)
            }
            Expr::Generator(comprehension) => {
                let inner = comprehension_scope(index, expression, scope);
                self.evaluate(index, &comprehension.elt, inner, reads)
            }
            Expr::DictComp(comprehension) => {
                let inner = comprehension_scope(index, expression, scope);
                let mut values = self.evaluate(index, &comprehension.value, inner, reads);
                if let Some(key) = &comprehension.key {
                    values.extend(self.evaluate(index, key, inner, reads));
                }
                values
            }
            Expr::Lambda(_) => index
                .lambdas
                .get(&std::ptr::from_ref(expression))
                .map(|&function| Value::Function(function))
                .into_iter()
                .collect(),
            _ => Values::new(),
        }
    }

    fn all(
        &self,
        index: &Index<'_>,
        expressions: &[Expr],
        scope: ScopeId,
        reads: &mut Vec<VariableId>,
    ) -> Values {
        expressions
            .iter()
            .flat_map(|expression| self.evaluate(index, expression, scope, reads))
            .collect()
    }

    fn call(
        &self,
        index: &Index<'_>,
        call: &ExprCall,
        scope: ScopeId,
        reads: &mut Vec<VariableId>,
    ) -> Values {
        if let Expr::Attribute(attribute) = call.func.as_ref()
            && HANDING_METHODS.contains(&attribute.attr.as_str())
        {
            let mut values = self.evaluate(index, &attribute.value, scope, reads);
            values.extend(self.arguments(index, &call.arguments, scope, reads));
            return values;
        }
        let mut values = Values::new();
        for callee in self.evaluate(index, &call.func, scope, reads) {
            match callee {
                Value::Path(path) if passes_arguments_on(&path) => {
                    values.extend(self.arguments(index, &call.arguments, scope, reads));
                }
                Value::Path(_) => {}
                Value::Function(function) => {
                    values.extend(self.read([index.functions[function.0].result], reads));
                }
                Value::Unbounded => {
                    values.insert(Value::Unbounded);
                }
            }
        }
        values
    }

    fn arguments(
        &self,
        index: &Index<'_>,
        arguments: &Arguments,
        scope: ScopeId,
        reads: &mut Vec<VariableId>,
    ) -> Values {
        let mut values = self.all(index, &arguments.args, scope, reads);
        for keyword in &arguments.keywords {
            values.extend(self.evaluate(index, &keyword.value, scope, reads));
        }
        values
    }
}

fn comprehension_scope(index: &Index<'_>, expression: &Expr, outer: ScopeId) -> ScopeId {
    index
        .comprehensions
        .get(&std::ptr::from_ref(expression))
        .copied()
        .unwrap_or(outer)
}

fn passes_arguments_on(path: &str) -> bool {
    PASSING_BUILTINS.contains(&path)
        || PASSING_PATHS
            .iter()
            .any(|entry| is_at_or_below(path, entry))
}
