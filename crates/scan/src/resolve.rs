//! What names and expressions may stand for: dotted names below imported modules, builtins, and
//! functions of the file.
//!
//! Values flow through assignments, containers, arguments and results until nothing changes. The
//! order of statements is ignored and containers are not told from what they hold, so the answer
//! errs on the side of more meanings, never fewer, for the flows that it follows.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use foldhash::{HashSet, HashSetExt};
use ruff_python_ast::{Arguments, Expr, ExprCall};

use crate::builtins;
use crate::index::{FunctionId, Index, Origin, number_of};
use crate::paths::{PathId, Paths};
use crate::policy::{Policy, is_at_or_below};
use crate::scope::{ScopeId, Symbol, VariableId};

/// Most meanings of one variable; the rule on too many meanings refuses what has more.
const MAX_MEANINGS: usize = 24;

/// Values that are collected before doubles are thrown out for the first time.
const COLLECTED_UNSORTED: usize = 1_024;

/// One thing that an expression may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Value {
    /// A dotted name below an imported module, or `builtins.NAME`.
    Path(PathId),
    /// A function or lambda of the file.
    Function(FunctionId),
    /// More meanings, or a longer dotted name, than are followed.
    Unbounded,
}

/// Values of one expression, sorted, none twice.
pub(crate) type Values = Rc<[Value]>;

/// What `type(x)` and `x.__class__` stand for: a class that the file need not have made.
const CLASS_OF_AN_OBJECT: &str = "builtins.type()";

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
const PASSING_PATHS: [&str; 14] = [
    "copy",
    "enum",
    "heapq",
    "random",
    "statistics",
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
const HANDING_METHODS: [&str; 16] = [
    "choice",
    "choices",
    "sample",
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

/// What is the same for every use of a name, worked out once.
#[derive(Clone, Copy, Debug, Default)]
struct Meaning {
    /// The builtin of that name.
    builtin: Option<PathId>,
    /// Whether that builtin counts even where the file binds the name too.
    is_refused_builtin: bool,
    /// Whether a method of that name hands out what its object holds.
    is_handing: bool,
}

/// The meanings of all variables of a file, and of any expression on demand.
#[derive(Debug)]
pub(crate) struct Resolution<'a> {
    policy: &'a Policy,
    flows: Flows<'a>,
    variables: Vec<Vec<Value>>,
    /// By symbol.
    meanings: Vec<Meaning>,
    paths: RefCell<Paths>,
    /// By dotted name, whether a call of it hands on its arguments; grows on demand.
    passing: RefCell<Vec<Option<bool>>>,
    /// By number of an expression.
    memory: RefCell<Vec<Option<Values>>>,
    nothing: Values,
    builtin_type: PathId,
    class_of_an_object: PathId,
}

/// Where every variable takes its values from, arguments of calls included.
#[derive(Debug, Default)]
struct Flows<'a> {
    /// Sorted by variable, of each variable in the order of the file.
    origins: Vec<Origin<'a>>,
    /// By variable, where its origins begin; one more entry than there are variables.
    starts: Vec<usize>,
}

impl<'a> Flows<'a> {
    fn new(variables: usize, mut flows: Vec<(VariableId, Origin<'a>)>) -> Self {
        flows.sort_by_key(|(variable, _)| *variable);
        let mut starts = vec![0; variables + 1];
        for (variable, _) in &flows {
            starts[variable.0 + 1] += 1;
        }
        let mut total = 0;
        for start in &mut starts {
            total += *start;
            *start = total;
        }
        Self {
            origins: flows.into_iter().map(|(_, origin)| origin).collect(),
            starts,
        }
    }

    fn of(&self, variable: VariableId) -> &[Origin<'a>] {
        match self.starts.get(variable.0..variable.0 + 2) {
            Some(&[start, end]) => &self.origins[start..end],
            _ => &[],
        }
    }
}

/// What a target takes of the elements of `zip(a, b)` are elements of the one argument at its place,
/// and not of the others. Only where `zip` is the builtin.
fn of_one_argument<'a>(index: &Index<'a>, origin: Origin<'a>) -> Origin<'a> {
    let Origin::Unpacked(whole, place) = &origin else {
        return origin;
    };
    let Origin::Element(Expr::Call(call), scope) = **whole else {
        return origin;
    };
    let arguments = &*call.arguments.args;
    let is_builtin = call.func.as_name_expr().is_some_and(|name| {
        let symbol = index.scopes.known_symbol(name.id.as_str());
        let bound = symbol.and_then(|symbol| index.scopes.nearest(scope, symbol));
        name.id.as_str() == "zip" && bound.is_none()
    });
    if !is_builtin || arguments.iter().any(Expr::is_starred_expr) {
        return origin;
    }
    place
        .pick(arguments)
        .map_or(origin.clone(), |argument| Origin::Element(argument, scope))
}

/// Follows all flows of a file to their end. Takes the origins out of the index.
pub(crate) fn resolve<'a>(index: &mut Index<'a>, policy: &'a Policy) -> Resolution<'a> {
    let origins = std::mem::take(&mut index.origins);
    let index = &*index;
    let mut paths = Paths::default();
    let builtin_type = paths.intern("builtins.type");
    let class_of_an_object = paths.intern(CLASS_OF_AN_OBJECT);
    let mut meanings = vec![Meaning::default(); index.scopes.symbol_count()];
    for name in builtins::NAMES {
        if let Some(symbol) = index.scopes.known_symbol(name) {
            let meaning = &mut meanings[symbol.0 as usize];
            meaning.builtin = Some(paths.intern(&format!("builtins.{name}")));
            meaning.is_refused_builtin = policy.names.refused_builtins.contains(*name);
        }
    }
    for method in HANDING_METHODS {
        if let Some(symbol) = index.scopes.known_symbol(method) {
            meanings[symbol.0 as usize].is_handing = true;
        }
    }
    let variables = index.scopes.variable_count();
    let mut solver = Solver {
        index,
        resolution: Resolution {
            policy,
            flows: Flows::default(),
            variables: vec![Vec::new(); variables],
            meanings,
            paths: RefCell::new(paths),
            passing: RefCell::new(Vec::new()),
            memory: RefCell::new(vec![None; index.expression_count()]),
            nothing: Rc::new([]),
            builtin_type,
            class_of_an_object,
        },
        constraints: Vec::with_capacity(origins.len() + index.calls.len()),
        readers: vec![NOBODY; variables],
        reader_lists: Vec::new(),
        noted: Vec::new(),
        queued: Vec::with_capacity(origins.len() + index.calls.len()),
        linked: HashSet::new(),
    };
    for (variable, origin) in origins {
        solver.add(Constraint::Flow(variable, of_one_argument(index, origin)));
    }
    for call in &index.calls {
        solver.add_call(call.call, call.scope);
    }
    // The order of the file is nearly the order in which values come about.
    solver.queued.reverse();
    solver.solve();
    let mut flows = Vec::with_capacity(solver.constraints.len());
    for entry in solver.constraints {
        if let Constraint::Flow(variable, origin) = entry.constraint {
            flows.push((variable, origin));
        }
    }
    solver.resolution.flows = Flows::new(variables, flows);
    solver.resolution
}

/// A constraint with what its evaluations have looked at.
struct Entry<'a> {
    constraint: Constraint<'a>,
    /// The variables that it has read, sorted: a part of [`Solver::noted`].
    read: Range<usize>,
    is_queued: bool,
}

/// The end of a list of readers.
const NOBODY: usize = usize::MAX;

struct Solver<'i, 'a> {
    index: &'i Index<'a>,
    resolution: Resolution<'a>,
    constraints: Vec<Entry<'a>>,
    /// Per variable, the first entry of the list of constraints that have read it.
    readers: Vec<usize>,
    /// A constraint and the next entry of the same list.
    reader_lists: Vec<(usize, usize)>,
    /// What every constraint has read, one after another.
    noted: Vec<VariableId>,
    queued: Vec<usize>,
    /// Pairs of a call and a function whose arguments have been linked to parameters.
    linked: HashSet<(*const ExprCall, FunctionId)>,
}

impl<'a> Solver<'_, 'a> {
    fn add(&mut self, constraint: Constraint<'a>) {
        self.queued.push(self.constraints.len());
        self.constraints.push(Entry {
            constraint,
            read: 0..0,
            is_queued: true,
        });
    }

    /// Adds what a call may lead to; most calls are of methods that the file does not define.
    fn add_call(&mut self, call: &'a ExprCall, scope: ScopeId) {
        let is_followed = match call.func.as_ref() {
            Expr::Attribute(attribute) => symbol(self.index, &call.func, attribute.attr.as_str())
                .is_some_and(|symbol| self.index.scopes.field_if_stored(symbol).is_some()),
            // What a call gives is not called in turn.
            Expr::Call(_) => false,
            _ => true,
        };
        if is_followed {
            self.add(Constraint::Call(call, scope));
        }
    }

    fn solve(&mut self) {
        let mut reads = Vec::new();
        let mut values = Vec::new();
        while let Some(position) = self.queued.pop() {
            reads.clear();
            values.clear();
            let entry = &mut self.constraints[position];
            entry.is_queued = false;
            match &entry.constraint {
                Constraint::Flow(variable, origin) => {
                    let variable = *variable;
                    match (origin, origin.expression()) {
                        (Origin::Path(path), _) => {
                            let paths = self.resolution.paths.get_mut();
                            let path = paths.resolve(self.resolution.policy, path);
                            values.push(path.map_or(Value::Unbounded, Value::Path));
                        }
                        (Origin::Function(function), _) => values.push(Value::Function(*function)),
                        (Origin::Decorated(decorator, scope), _) => self.resolution.decorated(
                            self.index,
                            decorator,
                            *scope,
                            &mut values,
                            &mut reads,
                        ),
                        (_, Some((expression, scope))) => self.resolution.evaluate(
                            self.index,
                            expression,
                            scope,
                            &mut values,
                            &mut reads,
                        ),
                        (_, None) => {}
                    }
                    self.note(position, &mut reads);
                    self.grow(variable, &mut values);
                }
                Constraint::Call(call, scope) => {
                    let (call, scope) = (*call, *scope);
                    self.resolution
                        .callees(self.index, &call.func, scope, &mut values, &mut reads);
                    self.note(position, &mut reads);
                    for value in &values {
                        if let Value::Function(callee) = value
                            && self.linked.insert((std::ptr::from_ref(call), *callee))
                        {
                            self.link(call, scope, *callee);
                        }
                    }
                }
            }
        }
    }

    /// Remembers what a constraint has read, so that it is evaluated again when that grows.
    fn note(&mut self, position: usize, reads: &mut Vec<VariableId>) {
        if reads.is_empty() {
            return;
        }
        reads.sort_unstable();
        reads.dedup();
        let known = self.constraints[position].read.clone();
        if self.noted[known.clone()] == **reads {
            return;
        }
        for read in reads.iter() {
            if self.noted[known.clone()].binary_search(read).is_err() {
                self.reader_lists.push((position, self.readers[read.0]));
                self.readers[read.0] = self.reader_lists.len() - 1;
            }
        }
        reads.extend_from_slice(&self.noted[known]);
        reads.sort_unstable();
        reads.dedup();
        let start = self.noted.len();
        self.noted.extend_from_slice(reads);
        self.constraints[position].read = start..self.noted.len();
    }

    fn grow(&mut self, variable: VariableId, values: &mut Vec<Value>) {
        sort_tail(values, 0);
        let known = &mut self.resolution.variables[variable.0];
        let before = known.len();
        for value in values {
            if known.len() > MAX_MEANINGS {
                break;
            }
            if let Err(place) = known.binary_search(value) {
                if known.len() == MAX_MEANINGS {
                    if known.last() != Some(&Value::Unbounded) {
                        known.push(Value::Unbounded);
                    }
                    break;
                }
                known.insert(place, *value);
            }
        }
        if known.len() != before {
            let mut list = self.readers[variable.0];
            while let Some(&(reader, next)) = self.reader_lists.get(list) {
                let entry = &mut self.constraints[reader];
                if !entry.is_queued {
                    entry.is_queued = true;
                    self.queued.push(reader);
                }
                list = next;
            }
        }
    }

    /// Links the arguments of a call to the parameters of a function. A method may be called with
    /// or without its first argument written out, so both alignments are linked.
    fn link(&mut self, call: &'a ExprCall, scope: ScopeId, callee: FunctionId) {
        let index = self.index;
        let function = index.function(callee);
        let is_method_call = call.func.is_attribute_expr();
        for (position, argument) in call.arguments.args.iter().enumerate() {
            let mut flow = |target: VariableId| {
                self.add(Constraint::Flow(
                    target,
                    Origin::Expression(argument, scope),
                ));
            };
            if argument.is_starred_expr() {
                function.positional.iter().copied().for_each(&mut flow);
            } else {
                let first = function.positional.get(position).copied();
                first.into_iter().for_each(&mut flow);
                if is_method_call {
                    let second = function.positional.get(position + 1).copied();
                    second.into_iter().for_each(&mut flow);
                }
            }
            function.rest.iter().copied().for_each(&mut flow);
        }
        for keyword in &call.arguments.keywords {
            let mut flow = |target: VariableId| {
                let origin = Origin::Expression(&keyword.value, scope);
                self.add(Constraint::Flow(target, origin));
            };
            match &keyword.arg {
                Some(name) => {
                    let target = index.scopes.known_symbol(name.as_str()).and_then(|symbol| {
                        let by_name = &function.by_name;
                        let place = by_name.binary_search_by_key(&symbol, |(name, _)| *name);
                        place.ok().map(|place| by_name[place].1)
                    });
                    match target {
                        Some(target) => flow(target),
                        None => function.rest.iter().copied().for_each(flow),
                    }
                }
                None => {
                    let named = function.by_name.iter().map(|(_, target)| *target);
                    named.chain(function.rest.iter().copied()).for_each(flow);
                }
            }
        }
    }
}

impl Resolution<'_> {
    /// Where a variable takes its values from.
    pub(crate) fn flows(&self, variable: VariableId) -> &[Origin<'_>] {
        self.flows.of(variable)
    }

    /// Whether a name that is read may stand for a dotted name; collects nothing.
    pub(crate) fn name_may_be(
        &self,
        index: &Index<'_>,
        name: Symbol,
        scope: ScopeId,
        path: PathId,
    ) -> bool {
        let wanted = Value::Path(path);
        let mut is_bound = false;
        let mut is_found = false;
        let can_be_builtin = index.scopes.look_up(scope, name, |variable| {
            is_bound = true;
            is_found |= self.variables[variable.0].contains(&wanted);
        });
        is_found || self.builtin(name, is_bound, can_be_builtin) == Some(wanted)
    }

    /// The number of a dotted name that has come up.
    pub(crate) fn path_number(&self, path: &str) -> Option<PathId> {
        self.paths.borrow().number(path)
    }

    /// The text of a dotted name.
    pub(crate) fn path_text(&self, path: PathId) -> Rc<str> {
        Rc::clone(self.paths.borrow().text(path))
    }

    /// The texts of all dotted names that have come up so far, by their numbers.
    pub(crate) fn path_texts(&self) -> Vec<Rc<str>> {
        self.paths.borrow().texts().to_vec()
    }

    /// What an expression may stand for.
    pub(crate) fn values(&self, index: &Index<'_>, expression: &Expr, scope: ScopeId) -> Values {
        let number = number_of(expression);
        if let Some(number) = number
            && let Some(Some(values)) = self.memory.borrow().get(number)
        {
            return Rc::clone(values);
        }
        let mut found = Vec::new();
        // Long chains are remembered link by link, so that asking for each of their links is
        // linear in all.
        match expression {
            Expr::Attribute(attribute) => {
                found.extend_from_slice(&self.values(index, &attribute.value, scope));
                if let Some(symbol) = symbol(index, expression, attribute.attr.as_str()) {
                    self.attribute(index, symbol, &mut found, 0, &mut Vec::new());
                }
            }
            _ => self.evaluate(index, expression, scope, &mut found, &mut Vec::new()),
        }
        sort_tail(&mut found, 0);
        let values = if found.is_empty() {
            Rc::clone(&self.nothing)
        } else {
            found.into()
        };
        if let Some(number) = number
            && let Some(place) = self.memory.borrow_mut().get_mut(number)
        {
            *place = Some(Rc::clone(&values));
        }
        values
    }

    /// The functions of the file that a callee may be, among other values.
    fn callees(
        &self,
        index: &Index<'_>,
        callee: &Expr,
        scope: ScopeId,
        found: &mut Vec<Value>,
        reads: &mut Vec<VariableId>,
    ) {
        match callee {
            Expr::Attribute(attribute) => {
                let field = symbol(index, callee, attribute.attr.as_str())
                    .and_then(|symbol| index.scopes.field_if_stored(symbol));
                if let Some(field) = field {
                    self.read(field, found, reads);
                }
            }
            Expr::Call(_) => {}
            _ => self.evaluate(index, callee, scope, found, reads),
        }
    }

    fn read(&self, variable: VariableId, found: &mut Vec<Value>, reads: &mut Vec<VariableId>) {
        reads.push(variable);
        found.extend_from_slice(&self.variables[variable.0]);
    }

    /// Replaces the values from `start` on by those of their attribute.
    fn attribute(
        &self,
        index: &Index<'_>,
        attribute: Symbol,
        found: &mut Vec<Value>,
        start: usize,
        reads: &mut Vec<VariableId>,
    ) {
        sort_tail(found, start);
        let mut kept = start;
        for position in start..found.len() {
            let value = match found[position] {
                Value::Path(path) => {
                    let text = index.scopes.text(attribute);
                    let mut paths = self.paths.borrow_mut();
                    paths
                        .join(self.policy, path, attribute, text)
                        .map_or(Value::Unbounded, Value::Path)
                }
                Value::Unbounded => Value::Unbounded,
                Value::Function(_) => continue,
            };
            found[kept] = value;
            kept += 1;
        }
        found.truncate(kept);
        if let Some(field) = index.scopes.field_if_stored(attribute) {
            self.read(field, found, reads);
        }
        if index.scopes.text(attribute) == "__class__" {
            found.push(Value::Path(self.class_of_an_object));
        }
    }

    fn name(
        &self,
        index: &Index<'_>,
        name: Symbol,
        scope: ScopeId,
        found: &mut Vec<Value>,
        reads: &mut Vec<VariableId>,
    ) {
        let mut is_bound = false;
        let can_be_builtin = index.scopes.look_up(scope, name, |variable| {
            is_bound = true;
            self.read(variable, found, reads);
        });
        found.extend(self.builtin(name, is_bound, can_be_builtin));
    }

    fn builtin(&self, name: Symbol, is_bound: bool, can_be_builtin: bool) -> Option<Value> {
        let meaning = self.meanings.get(name.0 as usize)?;
        let is_meant = can_be_builtin && (!is_bound || meaning.is_refused_builtin);
        meaning.builtin.filter(|_| is_meant).map(Value::Path)
    }

    /// Appends what an expression may stand for to `found`, in no order and perhaps twice.
    fn evaluate(
        &self,
        index: &Index<'_>,
        expression: &Expr,
        scope: ScopeId,
        found: &mut Vec<Value>,
        reads: &mut Vec<VariableId>,
    ) {
        match expression {
            Expr::Name(name) => {
                if let Some(symbol) = symbol(index, expression, name.id.as_str()) {
                    self.name(index, symbol, scope, found, reads);
                }
            }
            Expr::Attribute(attribute) => {
                let start = found.len();
                self.evaluate(index, &attribute.value, scope, found, reads);
                if let Some(symbol) = symbol(index, expression, attribute.attr.as_str()) {
                    self.attribute(index, symbol, found, start, reads);
                }
            }
            Expr::Call(call) => self.call(index, call, scope, found, reads),
            Expr::Named(named) => self.evaluate(index, &named.value, scope, found, reads),
            Expr::Starred(starred) => self.evaluate(index, &starred.value, scope, found, reads),
            Expr::Await(awaited) => self.evaluate(index, &awaited.value, scope, found, reads),
            Expr::Subscript(subscript) => {
                self.evaluate(index, &subscript.value, scope, found, reads);
            }
            Expr::If(choice) => {
                self.evaluate(index, &choice.body, scope, found, reads);
                self.evaluate(index, &choice.orelse, scope, found, reads);
            }
            Expr::BoolOp(operation) => self.all(index, &operation.values, scope, found, reads),
            Expr::BinOp(operation) => {
                // Adding or repeating containers keeps what they hold.
                self.evaluate(index, &operation.left, scope, found, reads);
                self.evaluate(index, &operation.right, scope, found, reads);
            }
            Expr::Tuple(tuple) => self.all(index, &tuple.elts, scope, found, reads),
            Expr::List(list) => self.all(index, &list.elts, scope, found, reads),
            Expr::Set(set) => self.all(index, &set.elts, scope, found, reads),
            Expr::Dict(dict) => {
                let items = dict.items.iter();
                let parts = items.flat_map(|item| item.key.iter().chain([&item.value]));
                self.all(index, parts, scope, found, reads);
            }
            Expr::ListComp(comprehension) => {
                let inner = index.scope_of(expression).unwrap_or(scope);
                self.evaluate(index, &comprehension.elt, inner, found, reads);
            }
            Expr::SetComp(comprehension) => {
                let inner = index.scope_of(expression).unwrap_or(scope);
                self.evaluate(index, &comprehension.elt, inner, found, reads);
            }
            Expr::Generator(comprehension) => {
                let inner = index.scope_of(expression).unwrap_or(scope);
                self.evaluate(index, &comprehension.elt, inner, found, reads);
            }
            Expr::DictComp(comprehension) => {
                let inner = index.scope_of(expression).unwrap_or(scope);
                self.evaluate(index, &comprehension.value, inner, found, reads);
                if let Some(key) = &comprehension.key {
                    self.evaluate(index, key, inner, found, reads);
                }
            }
            Expr::Lambda(_) => {
                found.extend(index.function_of(expression).map(Value::Function));
            }
            _ => {}
        }
    }

    fn all<'e>(
        &self,
        index: &Index<'_>,
        expressions: impl IntoIterator<Item = &'e Expr>,
        scope: ScopeId,
        found: &mut Vec<Value>,
        reads: &mut Vec<VariableId>,
    ) {
        let start = found.len();
        let mut bound = start + COLLECTED_UNSORTED;
        for expression in expressions {
            self.evaluate(index, expression, scope, found, reads);
            if found.len() > bound {
                sort_tail(found, start);
                bound = start + COLLECTED_UNSORTED + 2 * (found.len() - start);
            }
        }
    }

    fn call(
        &self,
        index: &Index<'_>,
        call: &ExprCall,
        scope: ScopeId,
        found: &mut Vec<Value>,
        reads: &mut Vec<VariableId>,
    ) {
        if let Expr::Attribute(attribute) = call.func.as_ref()
            && let Some(symbol) = symbol(index, &call.func, attribute.attr.as_str())
            && self.is_handing(symbol)
        {
            self.evaluate(index, &attribute.value, scope, found, reads);
            self.arguments(index, &call.arguments, scope, found, reads);
            return;
        }
        let start = found.len();
        self.evaluate(index, &call.func, scope, found, reads);
        sort_tail(found, start);
        let mut is_passed_on = false;
        for callee in found.split_off(start) {
            match callee {
                Value::Path(path) if path == self.builtin_type => {
                    found.push(Value::Path(self.class_of_an_object));
                }
                Value::Path(path) => is_passed_on |= self.passes_arguments_on(path),
                Value::Function(function) => {
                    self.read(index.function(function).result, found, reads);
                }
                Value::Unbounded => found.push(Value::Unbounded),
            }
        }
        if is_passed_on {
            self.arguments(index, &call.arguments, scope, found, reads);
        }
    }

    /// What calling a decorator gives: what its function returns and, where it is made by a call
    /// that hands on its arguments, any of these.
    fn decorated(
        &self,
        index: &Index<'_>,
        decorator: &Expr,
        scope: ScopeId,
        found: &mut Vec<Value>,
        reads: &mut Vec<VariableId>,
    ) {
        self.evaluate(index, decorator, scope, found, reads);
        sort_tail(found, 0);
        let made = found.clone();
        if !decorator.is_call_expr() {
            found.clear();
        }
        for value in made {
            if let Value::Function(function) = value {
                self.read(index.function(function).result, found, reads);
            }
        }
    }

    fn is_handing(&self, method: Symbol) -> bool {
        self.meanings
            .get(method.0 as usize)
            .is_some_and(|meaning| meaning.is_handing)
    }

    fn passes_arguments_on(&self, path: PathId) -> bool {
        let mut passing = self.passing.borrow_mut();
        let position = path.position();
        if passing.len() <= position {
            passing.resize(position + 1, None);
        }
        *passing[position]
            .get_or_insert_with(|| passes_arguments_on(self.paths.borrow().text(path)))
    }

    fn arguments(
        &self,
        index: &Index<'_>,
        arguments: &Arguments,
        scope: ScopeId,
        found: &mut Vec<Value>,
        reads: &mut Vec<VariableId>,
    ) {
        let keywords = arguments.keywords.iter().map(|keyword| &keyword.value);
        let all = arguments.args.iter().chain(keywords);
        self.all(index, all, scope, found, reads);
    }
}

/// The symbol of a name or attribute, by its number or, where it has none, by its text.
fn symbol(index: &Index<'_>, expression: &Expr, text: &str) -> Option<Symbol> {
    index
        .symbol_of(expression)
        .or_else(|| index.scopes.known_symbol(text))
}

/// Throws out doubles in the tail of a list.
fn sort_tail(values: &mut Vec<Value>, start: usize) {
    let Some(tail) = values.get_mut(start..) else {
        return;
    };
    if tail.len() < 2 {
        return;
    }
    tail.sort_unstable();
    let mut kept = start + 1;
    for position in start + 1..values.len() {
        if values[position] != values[kept - 1] {
            values[kept] = values[position];
            kept += 1;
        }
    }
    values.truncate(kept);
}

fn passes_arguments_on(path: &str) -> bool {
    PASSING_BUILTINS.contains(&path)
        || PASSING_PATHS
            .iter()
            .any(|entry| is_at_or_below(path, entry))
}
