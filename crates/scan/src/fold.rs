//! Works out what a constant expression spells: strings, bytes, whole numbers and containers of
//! them, through names that are bound once. Bounded in depth and in the text that it builds; what
//! exceeds a bound is said, so that a rule can refuse it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ruff_python_ast::{
    Comprehension, ConversionFlag, Expr, ExprBinOp, ExprCall, ExprFString, ExprSubscript,
    FStringPart, InterpolatedStringElement, Number, Operator, UnaryOp,
};

use crate::index::{Index, Origin, number_of};
use crate::resolve::{Resolution, Value};
use crate::scope::{ScopeId, VariableId};

/// Levels of expressions and names that are followed at once; keeps recursion within the stack.
const MAX_DEPTH: usize = 6_000;

/// Bytes of text that are built for one file; honest files need a small part of it.
const MAX_BUILT: usize = 16 << 20;

/// Builtins with methods that make text.
const CLASSES_OF_TEXT: [&str; 3] = ["builtins.str", "builtins.bytes", "builtins.bytearray"];

/// Methods of text, bytes and containers that are worked out.
const FOLDED_METHODS: [&str; 21] = [
    "join",
    "replace",
    "lower",
    "casefold",
    "upper",
    "swapcase",
    "strip",
    "lstrip",
    "rstrip",
    "removeprefix",
    "removesuffix",
    "split",
    "decode",
    "encode",
    "get",
    "values",
    "keys",
    "copy",
    "__add__",
    "fromhex",
    "format",
];

/// Builtins that are worked out.
const FOLDED_BUILTINS: [&str; 8] = [
    "str",
    "bytes",
    "bytearray",
    "list",
    "tuple",
    "reversed",
    "int",
    "len",
];

/// A value that is known without running the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Constant {
    Text(Rc<str>),
    Bytes(Rc<[u8]>),
    Integer(i64),
    Sequence(Rc<[Constant]>),
    Mapping(Rc<[(Constant, Constant)]>),
}

/// The texts of a file that are known without running it.
#[derive(Debug, Default)]
pub(crate) struct KnownTexts {
    /// Position in the index's list of texts, and value. What is part of a known string is not
    /// listed again.
    pub(crate) outermost: Vec<(usize, Constant)>,
    /// Per text of the index, whether it is a known string, by itself or as part of another.
    pub(crate) is_known: Vec<bool>,
    /// Whether a bound was exceeded, so that texts may have been missed.
    pub(crate) exceeded: bool,
}

/// Folds every text of a file.
pub(crate) fn known_texts(
    index: &Index<'_>,
    resolution: &Resolution<'_>,
    memory: &FoldMemory,
) -> KnownTexts {
    let folder = Folder::new(index, resolution, memory);
    let mut known = KnownTexts::default();
    for (position, used) in index.texts.iter().enumerate() {
        let is_part = used
            .parent
            .is_some_and(|parent| known.is_known.get(parent) == Some(&true));
        let constant = if is_part {
            None
        } else {
            folder.fold(used.expression, used.scope)
        };
        // A container, or what was taken from one, need not show all that it was made of.
        let is_text = matches!(constant, Some(Constant::Text(_) | Constant::Bytes(_)));
        known.is_known.push(is_part || is_text);
        known
            .outermost
            .extend(constant.map(|constant| (position, constant)));
    }
    known.exceeded = memory.exceeded.get();
    known
}

/// What folding has found out about one file, and what it has spent.
#[derive(Debug)]
pub(crate) struct FoldMemory {
    /// By variable; `None` where it has not been asked for.
    variables: RefCell<Vec<Option<Option<Constant>>>>,
    /// By number of an expression, whether its value is known not to be known.
    failed: RefCell<Vec<bool>>,
    depth: Cell<usize>,
    built: Cell<usize>,
    exceeded: Cell<bool>,
}

impl FoldMemory {
    pub(crate) fn new(index: &Index<'_>) -> Self {
        Self {
            variables: RefCell::new(vec![None; index.scopes.variable_count()]),
            failed: RefCell::new(vec![false; index.expression_count()]),
            depth: Cell::new(0),
            built: Cell::new(0),
            exceeded: Cell::new(false),
        }
    }
}

/// Folds the expressions of one file.
#[derive(Debug)]
pub(crate) struct Folder<'i, 'a> {
    index: &'i Index<'a>,
    resolution: &'i Resolution<'a>,
    memory: &'i FoldMemory,
}

impl<'i, 'a> Folder<'i, 'a> {
    /// A folder that goes on from what is remembered, with the whole bound to spend.
    pub(crate) fn new(
        index: &'i Index<'a>,
        resolution: &'i Resolution<'a>,
        memory: &'i FoldMemory,
    ) -> Self {
        memory.built.set(0);
        Self {
            index,
            resolution,
            memory,
        }
    }

    /// The value of an expression, `None` when it is not known without running the code.
    pub(crate) fn fold(&self, expression: &Expr, scope: ScopeId) -> Option<Constant> {
        // Leaves are cheaper to look at than to remember.
        match expression {
            Expr::StringLiteral(literal) => {
                return self.text(literal.value.to_str());
            }
            Expr::BytesLiteral(literal) => {
                return self.bytes(&literal.value.bytes().collect::<Vec<u8>>());
            }
            Expr::NumberLiteral(literal) => {
                return match &literal.value {
                    Number::Int(number) => number.as_i64().map(Constant::Integer),
                    Number::Float(_) | Number::Complex { .. } => None,
                };
            }
            Expr::Attribute(_) | Expr::Compare(_) | Expr::Lambda(_) => return None,
            _ => {}
        }
        let number = number_of(expression);
        if let Some(number) = number
            && self.memory.failed.borrow().get(number) == Some(&true)
        {
            return None;
        }
        let depth = &self.memory.depth;
        if depth.get() >= MAX_DEPTH {
            self.memory.exceeded.set(true);
            return None;
        }
        depth.set(depth.get() + 1);
        let value = self.fold_inner(expression, scope);
        depth.set(depth.get() - 1);
        if value.is_none()
            && let Some(number) = number
            && let Some(failed) = self.memory.failed.borrow_mut().get_mut(number)
        {
            *failed = true;
        }
        value
    }

    fn fold_inner(&self, expression: &Expr, scope: ScopeId) -> Option<Constant> {
        match expression {
            Expr::Name(_) => self.name(expression, scope),
            Expr::BinOp(operation) => self.operation(operation, scope),
            Expr::UnaryOp(operation) => {
                match (operation.op, self.fold(&operation.operand, scope)?) {
                    (UnaryOp::USub, Constant::Integer(number)) => {
                        number.checked_neg().map(Constant::Integer)
                    }
                    (UnaryOp::UAdd, Constant::Integer(number)) => Some(Constant::Integer(number)),
                    (UnaryOp::Invert, Constant::Integer(number)) => {
                        Some(Constant::Integer(!number))
                    }
                    _ => None,
                }
            }
            Expr::FString(literal) => self.f_string(literal, scope),
            Expr::Subscript(subscript) => self.subscript(subscript, scope),
            Expr::Call(call) => self.call(call, scope),
            Expr::Named(named) => self.fold(&named.value, scope),
            // Of several values that an expression may have, the first that is known stands for
            // all: the others are texts of their own.
            Expr::If(choice) => self
                .fold(&choice.body, scope)
                .or_else(|| self.fold(&choice.orelse, scope)),
            Expr::BoolOp(operation) => operation
                .values
                .iter()
                .find_map(|value| self.fold(value, scope)),
            Expr::Tuple(tuple) => self.sequence(&tuple.elts, scope),
            Expr::List(list) => self.sequence(&list.elts, scope),
            Expr::Dict(dict) => {
                let mut items = Vec::new();
                for item in &dict.items {
                    let key = self.fold(item.key.as_ref()?, scope)?;
                    items.push((key, self.fold(&item.value, scope)?));
                }
                Some(Constant::Mapping(items.into()))
            }
            Expr::ListComp(comprehension) => {
                self.comprehension(&comprehension.elt, &comprehension.generators, scope)
            }
            Expr::Generator(comprehension) => {
                self.comprehension(&comprehension.elt, &comprehension.generators, scope)
            }
            _ => None,
        }
    }

    /// Counts what is built against the bound.
    fn build(&self, size: usize) -> Option<()> {
        let built = self.memory.built.get();
        let built = built.saturating_add(size).saturating_add(16);
        if built > MAX_BUILT {
            self.memory.exceeded.set(true);
            return None;
        }
        self.memory.built.set(built);
        Some(())
    }

    fn text(&self, text: &str) -> Option<Constant> {
        self.build(text.len())?;
        Some(Constant::Text(text.into()))
    }

    fn bytes(&self, bytes: &[u8]) -> Option<Constant> {
        self.build(bytes.len())?;
        Some(Constant::Bytes(bytes.into()))
    }

    fn items(&self, items: Vec<Constant>) -> Option<Constant> {
        self.build(items.len().saturating_mul(16))?;
        Some(Constant::Sequence(items.into()))
    }

    fn sequence(&self, elements: &[Expr], scope: ScopeId) -> Option<Constant> {
        let mut items = Vec::new();
        for element in elements {
            match element {
                Expr::Starred(starred) => {
                    items.extend(iterate(&self.fold(&starred.value, scope)?)?);
                }
                _ => items.push(self.fold(element, scope)?),
            }
        }
        self.items(items)
    }

    /// `[x for x in constant]` is the constant's elements.
    fn comprehension(
        &self,
        element: &Expr,
        generators: &[Comprehension],
        scope: ScopeId,
    ) -> Option<Constant> {
        let [generator] = generators else {
            return None;
        };
        match (element, &generator.target) {
            (Expr::Name(element), Expr::Name(target))
                if element.id == target.id && generator.ifs.is_empty() =>
            {
                let items = iterate(&self.fold(&generator.iter, scope)?)?;
                self.items(items)
            }
            _ => None,
        }
    }

    /// The value of a name that is bound once, or bound once and then added to.
    fn name(&self, name: &Expr, scope: ScopeId) -> Option<Constant> {
        let symbol = self.index.symbol_of(name)?;
        self.variable(self.index.scopes.nearest(scope, symbol)?)
    }

    fn variable(&self, variable: VariableId) -> Option<Constant> {
        let variables = &self.memory.variables;
        if let Some(Some(value)) = variables.borrow().get(variable.0) {
            return value.clone();
        }
        // A variable that is defined by itself has no constant value.
        *variables.borrow_mut().get_mut(variable.0)? = Some(None);
        let value = self.follow(variable);
        *variables.borrow_mut().get_mut(variable.0)? = Some(value.clone());
        value
    }

    fn follow(&self, variable: VariableId) -> Option<Constant> {
        let mut value = None;
        for origin in self.resolution.flows(variable) {
            value = match (origin, value) {
                (Origin::Augmented(assign, scope), Some(left)) => {
                    let right = self.fold(&assign.value, *scope)?;
                    Some(self.binary(&left, assign.op, &right)?)
                }
                (origin, None) => Some(self.origin(origin)?),
                (_, Some(_)) => return None,
            };
        }
        value
    }

    fn origin(&self, origin: &Origin<'_>) -> Option<Constant> {
        match origin {
            Origin::Expression(expression, scope) => self.fold(expression, *scope),
            Origin::Element(expression, scope) => {
                let mut elements = iterate(&self.fold(expression, *scope)?)?;
                let element = elements.pop()?;
                elements.is_empty().then_some(element)
            }
            Origin::Unpacked(whole, place) => {
                let values = iterate(&self.origin(whole)?)?;
                place.pick(&values).cloned()
            }
            Origin::Path(_)
            | Origin::Part(..)
            | Origin::Function(_)
            | Origin::Decorated(..)
            | Origin::Augmented(..) => None,
        }
    }

    /// What a function of the file returns, when it is always the same.
    fn result(&self, call: &ExprCall, scope: ScopeId) -> Option<Constant> {
        let values = self.resolution.values(self.index, &call.func, scope);
        let mut functions = values.iter().filter_map(|value| match value {
            Value::Function(function) => Some(*function),
            Value::Path(_) | Value::Unbounded => None,
        });
        let function = functions.next()?;
        if functions.next().is_some() {
            return None;
        }
        self.variable(self.index.function(function).result)
    }

    fn operation(&self, operation: &ExprBinOp, scope: ScopeId) -> Option<Constant> {
        let left = self.fold(&operation.left, scope)?;
        let right = self.fold(&operation.right, scope)?;
        self.binary(&left, operation.op, &right)
    }

    fn binary(&self, left: &Constant, operator: Operator, right: &Constant) -> Option<Constant> {
        match (left, operator, right) {
            (Constant::Text(left), Operator::Add, Constant::Text(right)) => {
                self.build(left.len() + right.len())?;
                Some(Constant::Text(format!("{left}{right}").into()))
            }
            (Constant::Bytes(left), Operator::Add, Constant::Bytes(right)) => {
                self.bytes(&[left.as_ref(), right.as_ref()].concat())
            }
            (Constant::Sequence(left), Operator::Add, Constant::Sequence(right)) => {
                self.items([left.as_ref(), right.as_ref()].concat())
            }
            (Constant::Text(text), Operator::Mod, values) => {
                let values = match values {
                    Constant::Sequence(values) => values.to_vec(),
                    value => vec![value.clone()],
                };
                self.text(&percent_format(text, &values)?)
            }
            (Constant::Integer(left), _, Constant::Integer(right)) => match operator {
                Operator::Add => left.checked_add(*right),
                Operator::Sub => left.checked_sub(*right),
                Operator::Mult => left.checked_mul(*right),
                Operator::FloorDiv if *left >= 0 && *right > 0 => left.checked_div(*right),
                Operator::Mod if *left >= 0 && *right > 0 => left.checked_rem(*right),
                Operator::BitXor => Some(left ^ right),
                Operator::BitAnd => Some(left & right),
                Operator::BitOr => Some(left | right),
                _ => None,
            }
            .map(Constant::Integer),
            (value, Operator::Mult, Constant::Integer(times))
            | (Constant::Integer(times), Operator::Mult, value) => self.repeat(value, *times),
            _ => None,
        }
    }

    fn repeat(&self, value: &Constant, times: i64) -> Option<Constant> {
        let times = usize::try_from(times.max(0)).ok()?;
        match value {
            Constant::Text(text) => {
                self.build(text.len().saturating_mul(times))?;
                Some(Constant::Text(text.repeat(times).into()))
            }
            Constant::Bytes(bytes) => {
                self.build(bytes.len().saturating_mul(times))?;
                Some(Constant::Bytes(bytes.repeat(times).into()))
            }
            Constant::Sequence(items) => {
                self.build(items.len().saturating_mul(times).saturating_mul(16))?;
                let repeated: Vec<Constant> = std::iter::repeat_n(items.iter().cloned(), times)
                    .flatten()
                    .collect();
                Some(Constant::Sequence(repeated.into()))
            }
            Constant::Integer(_) | Constant::Mapping(_) => None,
        }
    }

    fn f_string(&self, literal: &ExprFString, scope: ScopeId) -> Option<Constant> {
        let mut text = String::new();
        for part in &literal.value {
            match part {
                FStringPart::Literal(part) => text.push_str(&part.value),
                FStringPart::FString(part) => {
                    for element in &part.elements {
                        match element {
                            InterpolatedStringElement::Literal(part) => text.push_str(&part.value),
                            InterpolatedStringElement::Interpolation(part) => {
                                if matches!(
                                    part.conversion,
                                    ConversionFlag::Repr | ConversionFlag::Ascii
                                ) || part.debug_text.is_some()
                                {
                                    return None;
                                }
                                let value = self.fold(&part.expression, scope)?;
                                let specification = match &part.format_spec {
                                    None => String::new(),
                                    Some(specification) => specification
                                        .elements
                                        .iter()
                                        .map(|element| Some(element.as_literal()?.value.as_ref()))
                                        .collect::<Option<String>>()?,
                                };
                                text.push_str(&format_one(&value, &specification)?);
                            }
                        }
                    }
                }
            }
        }
        self.text(&text)
    }

    fn subscript(&self, subscript: &ExprSubscript, scope: ScopeId) -> Option<Constant> {
        let base = self.fold(&subscript.value, scope)?;
        if let Expr::Slice(slice) = subscript.slice.as_ref() {
            let bound = |bound: &Option<Box<Expr>>| match bound {
                None => Some(None),
                Some(bound) => match self.fold(bound, scope)? {
                    Constant::Integer(number) => Some(Some(number)),
                    _ => None,
                },
            };
            let (lower, upper, step) = (
                bound(&slice.lower)?,
                bound(&slice.upper)?,
                bound(&slice.step)?,
            );
            return match &base {
                Constant::Text(text) => {
                    let characters: Vec<char> = text.chars().collect();
                    let sliced = sliced(&characters, lower, upper, step)?;
                    self.text(&sliced.into_iter().collect::<String>())
                }
                Constant::Bytes(bytes) => self.bytes(&sliced(bytes, lower, upper, step)?),
                Constant::Sequence(items) => self.items(sliced(items, lower, upper, step)?),
                Constant::Integer(_) | Constant::Mapping(_) => None,
            };
        }
        let key = self.fold(&subscript.slice, scope)?;
        if let Constant::Mapping(items) = &base {
            // Of equal keys the last counts.
            let (_, value) = items
                .iter()
                .rev()
                .find(|(candidate, _)| *candidate == key)?;
            return Some(value.clone());
        }
        let Constant::Integer(position) = key else {
            return None;
        };
        let at = |length: usize| {
            let length = i64::try_from(length).ok()?;
            let position = if position < 0 {
                position.checked_add(length)?
            } else {
                position
            };
            usize::try_from(position).ok()
        };
        match &base {
            Constant::Text(text) => {
                let position = at(text.chars().count())?;
                self.text(text.chars().nth(position)?.encode_utf8(&mut [0; 4]))
            }
            Constant::Bytes(bytes) => {
                let byte = bytes.get(at(bytes.len())?)?;
                Some(Constant::Integer(i64::from(*byte)))
            }
            Constant::Sequence(items) => items.get(at(items.len())?).cloned(),
            Constant::Integer(_) | Constant::Mapping(_) => None,
        }
    }

    fn call(&self, call: &ExprCall, scope: ScopeId) -> Option<Constant> {
        self.result(call, scope)
            .or_else(|| self.library_call(call, scope))
    }

    /// A call of a method of strings and containers, or of a builtin.
    fn library_call(&self, call: &ExprCall, scope: ScopeId) -> Option<Constant> {
        let arguments = &call.arguments;
        let path = self.path(&call.func, scope);
        if path.as_deref() == Some("contextlib.nullcontext") {
            return self.fold(arguments.find_argument_value("enter_result", 0)?, scope);
        }
        match call.func.as_ref() {
            Expr::Attribute(method) => {
                let name = method.attr.as_str();
                if !FOLDED_METHODS.contains(&name) {
                    return None;
                }
                // `bytes.fromhex(text)`, and `str.join(text, items)` for `text.join(items)`.
                let is_class = self
                    .path(&method.value, scope)
                    .is_some_and(|path| CLASSES_OF_TEXT.contains(&path.as_ref()));
                if is_class {
                    let mut values = self.all(&arguments.args, scope)?;
                    if name == "fromhex" {
                        return match values.as_slice() {
                            [Constant::Text(text)] => self.bytes(&from_hex(text)?),
                            _ => None,
                        };
                    }
                    if values.is_empty() || !arguments.keywords.is_empty() {
                        return None;
                    }
                    let base = values.remove(0);
                    return self.method(&base, name, &values);
                }
                let base = self.fold(&method.value, scope)?;
                if name == "format" {
                    let Constant::Text(template) = &base else {
                        return None;
                    };
                    let mut named = Vec::new();
                    for keyword in &arguments.keywords {
                        let name = keyword.arg.as_ref()?.as_str();
                        named.push((name, self.fold(&keyword.value, scope)?));
                    }
                    let values = self.all(&arguments.args, scope)?;
                    return self.text(&brace_format(template, &values, &named)?);
                }
                let mut values = self.all(&arguments.args, scope)?;
                for keyword in &arguments.keywords {
                    if keyword.arg.as_ref()?.as_str() != "encoding" || !values.is_empty() {
                        return None;
                    }
                    values.push(self.fold(&keyword.value, scope)?);
                }
                self.method(&base, name, &values)
            }
            _ => {
                let path = path?;
                let function = path.strip_prefix("builtins.")?;
                if !FOLDED_BUILTINS.contains(&function) {
                    return None;
                }
                let mut values = self.all(&arguments.args, scope)?;
                for keyword in &arguments.keywords {
                    match keyword.arg.as_ref()?.as_str() {
                        "encoding" | "object" | "source" | "string" => {
                            values.push(self.fold(&keyword.value, scope)?);
                        }
                        _ => return None,
                    }
                }
                self.builtin(function, &values)
            }
        }
    }

    /// The dotted name of a library function, when it can be one only.
    fn path(&self, callee: &Expr, scope: ScopeId) -> Option<Rc<str>> {
        let values = self.resolution.values(self.index, callee, scope);
        let mut paths = values.iter().filter_map(|value| match value {
            Value::Path(path) => Some(*path),
            Value::Function(_) | Value::Unbounded => None,
        });
        let path = paths.next()?;
        let is_only = paths.next().is_none();
        is_only.then(|| self.resolution.path_text(path))
    }

    fn all(&self, expressions: &[Expr], scope: ScopeId) -> Option<Vec<Constant>> {
        match self.sequence(expressions, scope)? {
            Constant::Sequence(items) => Some(items.to_vec()),
            _ => None,
        }
    }

    fn builtin(&self, name: &str, values: &[Constant]) -> Option<Constant> {
        match (name, values) {
            ("str", [Constant::Text(text)]) => self.text(text),
            ("str", [Constant::Integer(number)]) => self.text(&number.to_string()),
            ("str", [Constant::Bytes(bytes), encoding]) => {
                self.text(&decode(bytes, Some(encoding))?)
            }
            ("bytes" | "bytearray", [Constant::Bytes(bytes)]) => self.bytes(bytes),
            ("bytes" | "bytearray", [Constant::Text(text), encoding]) => {
                self.bytes(&encode(text, Some(encoding))?)
            }
            ("bytes" | "bytearray", [Constant::Sequence(items)]) => {
                let bytes = items
                    .iter()
                    .map(|item| match item {
                        Constant::Integer(number) => u8::try_from(*number).ok(),
                        _ => None,
                    })
                    .collect::<Option<Vec<u8>>>()?;
                self.bytes(&bytes)
            }
            ("list" | "tuple", [value]) => self.items(iterate(value)?),
            ("reversed", [value]) => {
                let mut items = iterate(value)?;
                items.reverse();
                self.items(items)
            }
            ("int", [Constant::Integer(number)]) => Some(Constant::Integer(*number)),
            ("len", [value]) => {
                let length = iterate(value)?.len();
                i64::try_from(length).ok().map(Constant::Integer)
            }
            _ => None,
        }
    }

    fn method(&self, base: &Constant, name: &str, values: &[Constant]) -> Option<Constant> {
        match (base, name, values) {
            (Constant::Text(separator), "join", [items]) => {
                let parts = iterate(items)?
                    .into_iter()
                    .map(|item| match item {
                        Constant::Text(text) => Some(text),
                        _ => None,
                    })
                    .collect::<Option<Vec<Rc<str>>>>()?;
                let total = parts.iter().map(|part| part.len() + separator.len()).sum();
                self.build(total)?;
                Some(Constant::Text(parts.join(separator).into()))
            }
            (Constant::Bytes(separator), "join", [items]) => {
                let parts = iterate(items)?
                    .into_iter()
                    .map(|item| match item {
                        Constant::Bytes(bytes) => Some(bytes),
                        _ => None,
                    })
                    .collect::<Option<Vec<Rc<[u8]>>>>()?;
                let total = parts.iter().map(|part| part.len() + separator.len()).sum();
                self.build(total)?;
                Some(Constant::Bytes(parts.join(separator.as_ref()).into()))
            }
            (Constant::Text(text), "replace", [Constant::Text(old), Constant::Text(new)]) => {
                let times = text.matches(old.as_ref()).count();
                self.build(text.len() + times.saturating_mul(new.len()))?;
                Some(Constant::Text(text.replace(old.as_ref(), new).into()))
            }
            (Constant::Text(text), "lower" | "casefold", []) => self.text(&text.to_lowercase()),
            (Constant::Text(text), "upper", []) => self.text(&text.to_uppercase()),
            (Constant::Text(text), "swapcase", []) => self.text(
                &text
                    .chars()
                    .map(|character| {
                        if character.is_uppercase() {
                            character.to_lowercase().to_string()
                        } else {
                            character.to_uppercase().to_string()
                        }
                    })
                    .collect::<String>(),
            ),
            (Constant::Text(text), "strip" | "lstrip" | "rstrip", [] | [Constant::Text(_)]) => {
                let removed: Vec<char> = match values {
                    [Constant::Text(removed)] => removed.chars().collect(),
                    _ => " \t\n\r\x0b\x0c".chars().collect(),
                };
                let removed = removed.as_slice();
                self.text(match name {
                    "lstrip" => text.trim_start_matches(removed),
                    "rstrip" => text.trim_end_matches(removed),
                    _ => text.trim_matches(removed),
                })
            }
            (Constant::Text(text), "removeprefix", [Constant::Text(prefix)]) => {
                self.text(text.strip_prefix(prefix.as_ref()).unwrap_or(text))
            }
            (Constant::Text(text), "removesuffix", [Constant::Text(suffix)]) => {
                self.text(text.strip_suffix(suffix.as_ref()).unwrap_or(text))
            }
            (Constant::Text(text), "split", [Constant::Text(separator)])
                if !separator.is_empty() =>
            {
                self.build(text.len().saturating_mul(16))?;
                let parts = text.split(separator.as_ref());
                self.items(parts.map(|part| Constant::Text(part.into())).collect())
            }
            (Constant::Text(text), "split", []) => {
                self.build(text.len().saturating_mul(16))?;
                let parts = text.split_whitespace();
                self.items(parts.map(|part| Constant::Text(part.into())).collect())
            }
            (Constant::Bytes(bytes), "decode", []) => self.text(&decode(bytes, None)?),
            (Constant::Bytes(bytes), "decode", [encoding]) => {
                self.text(&decode(bytes, Some(encoding))?)
            }
            (Constant::Text(text), "encode", []) => self.bytes(&encode(text, None)?),
            (Constant::Text(text), "encode", [encoding]) => {
                self.bytes(&encode(text, Some(encoding))?)
            }
            (Constant::Mapping(items), "get", [key]) => items
                .iter()
                .rev()
                .find(|(candidate, _)| candidate == key)
                .map(|(_, value)| value.clone()),
            (Constant::Mapping(items), "values", []) => {
                self.items(items.iter().map(|(_, value)| value.clone()).collect())
            }
            (Constant::Mapping(items), "keys", []) => {
                self.items(items.iter().map(|(key, _)| key.clone()).collect())
            }
            (Constant::Sequence(_), "copy", []) => Some(base.clone()),
            (Constant::Text(text), "__add__", [Constant::Text(more)]) => {
                self.build(text.len() + more.len())?;
                Some(Constant::Text(format!("{text}{more}").into()))
            }
            _ => None,
        }
    }
}

/// The elements that iterating over a constant gives.
fn iterate(value: &Constant) -> Option<Vec<Constant>> {
    match value {
        Constant::Text(text) => Some(
            text.chars()
                .map(|character| Constant::Text(character.to_string().into()))
                .collect(),
        ),
        Constant::Bytes(bytes) => Some(
            bytes
                .iter()
                .map(|byte| Constant::Integer(i64::from(*byte)))
                .collect(),
        ),
        Constant::Sequence(items) => Some(items.to_vec()),
        Constant::Mapping(items) => Some(items.iter().map(|(key, _)| key.clone()).collect()),
        Constant::Integer(_) => None,
    }
}

/// A slice with Python's meaning of missing and negative bounds.
fn sliced<T: Clone>(
    items: &[T],
    lower: Option<i64>,
    upper: Option<i64>,
    step: Option<i64>,
) -> Option<Vec<T>> {
    let length = i64::try_from(items.len()).ok()?;
    let step = step.unwrap_or(1);
    if step == 0 {
        return None;
    }
    let (lowest, highest) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let place = |bound: Option<i64>, missing: i64| match bound {
        None => missing,
        Some(bound) if bound < 0 => bound.saturating_add(length).clamp(lowest, highest),
        Some(bound) => bound.clamp(lowest, highest),
    };
    let (start, stop) = if step > 0 {
        (place(lower, lowest), place(upper, highest))
    } else {
        (place(lower, highest), place(upper, lowest))
    };
    let mut result = Vec::new();
    let mut position = start;
    while (step > 0 && position < stop) || (step < 0 && position > stop) {
        result.push(items.get(usize::try_from(position).ok()?)?.clone());
        position = position.checked_add(step)?;
    }
    Some(result)
}

/// Encodings in which every character of a name is what it seems to be.
pub(crate) fn is_plain_encoding(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().replace('_', "-").as_str(),
        "utf-8" | "utf8" | "ascii" | "us-ascii" | "latin-1" | "latin1" | "iso-8859-1"
    )
}

fn named_encoding(encoding: Option<&Constant>) -> Option<&str> {
    match encoding {
        None => Some("utf-8"),
        Some(Constant::Text(name)) if is_plain_encoding(name) => Some(name),
        Some(_) => None,
    }
}

fn decode(bytes: &[u8], encoding: Option<&Constant>) -> Option<String> {
    let name = named_encoding(encoding)?;
    match std::str::from_utf8(bytes) {
        Ok(text) if name.to_ascii_lowercase().starts_with('u') || text.is_ascii() => {
            Some(text.to_owned())
        }
        // Every byte is the character of that number.
        _ => Some(bytes.iter().copied().map(char::from).collect()),
    }
}

fn encode(text: &str, encoding: Option<&Constant>) -> Option<Vec<u8>> {
    named_encoding(encoding)?;
    Some(text.as_bytes().to_vec())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|character| !character.is_ascii_whitespace())
        .map(|character| character.to_digit(16))
        .collect::<Option<_>>()?;
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect()
}

/// One value under a format specification: none, `s`, `d` or `c`.
fn format_one(value: &Constant, specification: &str) -> Option<String> {
    match (value, specification) {
        (Constant::Text(text), "" | "s") => Some(text.to_string()),
        (Constant::Integer(number), "" | "d") => Some(number.to_string()),
        (Constant::Integer(number), "c") => character(*number),
        _ => None,
    }
}

fn character(number: i64) -> Option<String> {
    char::from_u32(u32::try_from(number).ok()?).map(String::from)
}

fn percent_format(template: &str, values: &[Constant]) -> Option<String> {
    let mut values = values.iter();
    let mut result = String::new();
    let mut characters = template.chars();
    while let Some(next) = characters.next() {
        if next != '%' {
            result.push(next);
            continue;
        }
        match characters.next()? {
            '%' => result.push('%'),
            's' => result.push_str(&format_one(values.next()?, "")?),
            'd' | 'i' => result.push_str(&format_one(values.next()?, "d")?),
            'c' => match values.next()? {
                Constant::Text(text) => result.push_str(text),
                value => result.push_str(&format_one(value, "c")?),
            },
            _ => return None,
        }
    }
    Some(result)
}

fn brace_format(template: &str, values: &[Constant], named: &[(&str, Constant)]) -> Option<String> {
    let mut result = String::new();
    let mut automatic = 0;
    let mut rest = template;
    while let Some(found) = rest.find(['{', '}']) {
        result.push_str(rest.get(..found)?);
        let bracket = rest.get(found..=found)?;
        rest = rest.get(found + 1..)?;
        if let Some(after) = rest.strip_prefix(bracket) {
            result.push_str(bracket);
            rest = after;
            continue;
        }
        if bracket == "}" {
            return None;
        }
        let (field, after) = rest.split_once('}')?;
        rest = after;
        let (name, specification) = field.split_once(':').unwrap_or((field, ""));
        let name = name.strip_suffix("!s").unwrap_or(name);
        let value = if name.is_empty() {
            automatic += 1;
            values.get(automatic - 1)?
        } else if let Ok(position) = name.parse::<usize>() {
            values.get(position)?
        } else {
            let (_, value) = named.iter().find(|(candidate, _)| *candidate == name)?;
            value
        };
        result.push_str(&format_one(value, specification)?);
    }
    result.push_str(rest);
    Some(result)
}

#[cfg(test)]
mod tests {
    use ruff_python_ast::Stmt;
    use ruff_python_parser::parse_module;

    use super::{Constant, FoldMemory, Folder};
    use crate::index::index;
    use crate::policy::Policy;
    use crate::resolve::resolve;
    use crate::scope::MODULE;

    /// The text of the last statement of a module, a lone expression.
    fn folded(source: &str) -> Option<String> {
        let module = parse_module(source).unwrap().into_syntax();
        let mut index = index(&module.body);
        let policy = Policy::builtin();
        let resolution = resolve(&mut index, &policy);
        let memory = FoldMemory::new(&index);
        let folder = Folder::new(&index, &resolution, &memory);
        let Some(Stmt::Expr(last)) = module.body.last() else {
            panic!("the last statement is an expression");
        };
        match folder.fold(&last.value, MODULE) {
            Some(Constant::Text(text)) => Some(text.to_string()),
            _ => None,
        }
    }

    #[test]
    fn every_way_to_spell_a_text_is_followed() {
        for source in [
            "'ev' + 'al'",
            "'ev' 'al'",
            "'e' * 1 + 'val'",
            "'%s%s' % ('ev', 'al')",
            "'%c%c%c%c' % (101, 118, 97, 108)",
            "'{}{}'.format('ev', 'al')",
            "'{1}{0}'.format('al', 'ev')",
            "'{a}{b:s}'.format(a='ev', b='al')",
            "f'{\"ev\"}al'",
            "f'{101:c}val'",
            "''.join(['e', 'v', 'a', 'l'])",
            "''.join(reversed('lave'))",
            "''.join(c for c in 'eval')",
            "str.join('', ['ev', 'al'])",
            "'lave'[::-1]",
            "'xevalx'[1:-1]",
            "'e_v_a_l'[::2]",
            "'exal'.replace('x', 'v')",
            "'EVAL'.lower()",
            "' eval '.strip()",
            "b'eval'.decode()",
            "b'eval'.decode('latin-1')",
            "str(b'eval', 'utf-8')",
            "bytes([101, 118, 97, 108]).decode()",
            "bytearray((101, 118, 97, 108)).decode('ascii')",
            "bytes.fromhex('6576616c').decode()",
            "['a', 'eval'][1]",
            "{'k': 'eval'}['k']",
            "'a eval'.split()[-1]",
            "a = 'ev'\nb = 'al'\na + b",
            "a = 'ev'\na += 'al'\na",
            "(x := 'ev') + 'al'",
            "bytes([x for x in b'eval']).decode()",
            "(lambda a='ev': a)() + 'al'",
            "s = str\ns(b'eval', 'ascii')",
            "b = bytes\nb.fromhex('6576616c').decode()",
            "def f(a): return a + 'al'\nf('ev')",
            "for a in ['ev']: pass\na + 'al'",
            "for a, b in [('ev', 'al')]: pass\na + b",
            "a, *_, b = ['ev', 1, 2, 'al']\na + b",
            "a = 'ev' if x else None\na + (None or 'al')",
            "bytes([100 + 1, 118 ^ 0, 97, 4 * 27]).decode()",
        ] {
            let text = folded(source);
            assert_eq!(text.as_deref(), Some("eval"), "{source}");
        }
    }

    #[test]
    fn what_is_not_constant_is_not_guessed() {
        for source in [
            "x + 'al'",
            "a = 'ev'\na = f()\na + 'al'",
            "f'{x}al'",
            "'%d' % 1.5",
            "b'eval'.decode('rot13')",
            "a = a\na",
            "'a'[9]",
            "'{}'.format()",
            "'{'.format()",
            "for a in ['ev', 'ov']: pass\na + 'al'",
            "def f(a): return a + 'al'\nf('ev') + f('ov')",
            "def f(): return f()\nf()",
        ] {
            assert_eq!(folded(source), None, "{source}");
        }
    }

    #[test]
    fn building_without_bound_stops() {
        assert_eq!(folded("'a' * 10 ** 9"), None);
        assert_eq!(folded("'a' * 1000000000"), None);
        let doubling: String = (0..64)
            .map(|i| format!("a{} = a{i} + a{i}\n", i + 1))
            .collect();
        assert_eq!(folded(&format!("a0 = 'aa'\n{doubling}a64")), None);
    }
}
