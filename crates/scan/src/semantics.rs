//! Errors that CPython reports when it compiles a tree that parses: `return` outside a function,
//! two parameters of one name, `nonlocal` at module level. Follows scopes only as far as these
//! errors need, and in doubt reports nothing: CPython has the last word when the file is loaded.

use std::cell::RefCell;

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{Comprehension, Expr, ModModule, PythonVersion, Stmt};
use ruff_python_parser::semantic_errors::{
    LazyImportContext, SemanticSyntaxChecker, SemanticSyntaxContext, SemanticSyntaxError,
};
use ruff_text_size::TextRange;

/// Every compile-time error of a module, as message and place.
pub(crate) fn errors(text: &str, module: &ModModule) -> Vec<(String, TextRange)> {
    let mut walk = Walk {
        checker: SemanticSyntaxChecker::new(),
        surroundings: Surroundings {
            text,
            scopes: vec![Scope {
                kind: Kind::Module,
                is_loop: false,
            }],
            found: RefCell::new(Vec::new()),
        },
    };
    walk.visit_body(&module.body);
    let found = walk.surroundings.found.into_inner();
    found
        .into_iter()
        .map(|error| (error.to_string(), error.range))
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Module,
    Class,
    Function { is_async: bool },
    Comprehension { is_async: bool, is_generator: bool },
}

#[derive(Clone, Copy, Debug)]
struct Scope {
    kind: Kind,
    /// Whether the statement that is looked at stands in a loop of this scope.
    is_loop: bool,
}

/// Where the walk stands.
struct Surroundings<'t> {
    text: &'t str,
    scopes: Vec<Scope>,
    found: RefCell<Vec<SemanticSyntaxError>>,
}

impl Surroundings<'_> {
    fn kind(&self) -> Kind {
        self.scopes.last().map_or(Kind::Module, |scope| scope.kind)
    }

    /// The nearest scope that is no comprehension.
    fn enclosing(&self) -> Kind {
        let mut kinds = self.scopes.iter().rev().map(|scope| scope.kind);
        kinds
            .find(|kind| !matches!(kind, Kind::Comprehension { .. }))
            .unwrap_or(Kind::Module)
    }
}

struct Walk<'t> {
    checker: SemanticSyntaxChecker,
    surroundings: Surroundings<'t>,
}

impl Walk<'_> {
    fn within(&mut self, kind: Kind, visit: impl FnOnce(&mut Self)) {
        let scope = Scope {
            kind,
            is_loop: false,
        };
        self.surroundings.scopes.push(scope);
        visit(self);
        self.surroundings.scopes.pop();
    }

    fn in_loop(&mut self, body: &[Stmt]) {
        let set = |this: &mut Self, is_loop| {
            let scope = this.surroundings.scopes.last_mut();
            scope.is_some_and(|scope| std::mem::replace(&mut scope.is_loop, is_loop))
        };
        let outer = set(self, true);
        self.visit_body(body);
        set(self, outer);
    }

    fn comprehension(
        &mut self,
        is_generator: bool,
        generators: &[Comprehension],
        visit: impl FnOnce(&mut Self),
    ) {
        // The first iterable is evaluated where the comprehension stands.
        if let Some(first) = generators.first() {
            self.visit_expr(&first.iter);
        }
        let is_async = generators.iter().any(|generator| generator.is_async);
        let kind = Kind::Comprehension {
            is_async,
            is_generator,
        };
        self.within(kind, |this| {
            for (position, generator) in generators.iter().enumerate() {
                if position > 0 {
                    this.visit_expr(&generator.iter);
                }
                this.visit_expr(&generator.target);
                for condition in &generator.ifs {
                    this.visit_expr(condition);
                }
            }
            visit(this);
        });
    }
}

impl<'a> Visitor<'a> for Walk<'_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        self.checker.visit_stmt(statement, &self.surroundings);
        match statement {
            Stmt::FunctionDef(function) => {
                for decorator in &function.decorator_list {
                    self.visit_decorator(decorator);
                }
                if let Some(parameters) = &function.type_params {
                    self.visit_type_params(parameters);
                }
                self.visit_parameters(&function.parameters);
                if let Some(returns) = &function.returns {
                    self.visit_annotation(returns);
                }
                let is_async = function.is_async;
                self.within(Kind::Function { is_async }, |this| {
                    this.visit_body(&function.body);
                });
            }
            Stmt::ClassDef(class) => {
                for decorator in &class.decorator_list {
                    self.visit_decorator(decorator);
                }
                if let Some(parameters) = &class.type_params {
                    self.visit_type_params(parameters);
                }
                if let Some(arguments) = &class.arguments {
                    self.visit_arguments(arguments);
                }
                self.within(Kind::Class, |this| this.visit_body(&class.body));
            }
            Stmt::For(block) => {
                self.visit_expr(&block.iter);
                self.visit_expr(&block.target);
                self.in_loop(&block.body);
                self.visit_body(&block.orelse);
            }
            Stmt::While(block) => {
                self.visit_expr(&block.test);
                self.in_loop(&block.body);
                self.visit_body(&block.orelse);
            }
            _ => visitor::walk_stmt(self, statement),
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        self.checker.visit_expr(expression, &self.surroundings);
        match expression {
            Expr::Lambda(lambda) => {
                if let Some(parameters) = &lambda.parameters {
                    self.visit_parameters(parameters);
                }
                self.within(Kind::Function { is_async: false }, |this| {
                    this.visit_expr(&lambda.body);
                });
            }
            Expr::ListComp(comprehension) => {
                self.comprehension(false, &comprehension.generators, |this| {
                    this.visit_expr(&comprehension.elt);
                });
            }
            Expr::SetComp(comprehension) => {
                self.comprehension(false, &comprehension.generators, |this| {
                    this.visit_expr(&comprehension.elt);
                });
            }
            Expr::Generator(comprehension) => {
                self.comprehension(true, &comprehension.generators, |this| {
                    this.visit_expr(&comprehension.elt);
                });
            }
            Expr::DictComp(comprehension) => {
                self.comprehension(false, &comprehension.generators, |this| {
                    if let Some(key) = &comprehension.key {
                        this.visit_expr(key);
                    }
                    this.visit_expr(&comprehension.value);
                });
            }
            _ => visitor::walk_expr(self, expression),
        }
    }
}

impl SemanticSyntaxContext for Surroundings<'_> {
    fn future_annotations_or_stub(&self) -> bool {
        false
    }

    fn lazy_import_context(&self) -> Option<LazyImportContext> {
        None
    }

    fn python_version(&self) -> PythonVersion {
        PythonVersion::latest()
    }

    fn source(&self) -> &str {
        self.text
    }

    fn global(&self, _name: &str) -> Option<TextRange> {
        None
    }

    fn has_nonlocal_binding(&self, _name: &str) -> bool {
        true
    }

    fn in_async_context(&self) -> bool {
        self.enclosing() == Kind::Function { is_async: true }
    }

    fn in_await_allowed_context(&self) -> bool {
        matches!(self.enclosing(), Kind::Function { .. })
    }

    fn in_yield_allowed_context(&self) -> bool {
        matches!(self.kind(), Kind::Function { .. })
    }

    fn in_sync_comprehension(&self) -> bool {
        let is_sync = |scope: &Scope| {
            let kind = scope.kind;
            matches!(kind, Kind::Comprehension { is_async, .. } if !is_async)
        };
        self.scopes.iter().any(is_sync)
    }

    fn in_class_body_comprehension(&self) -> bool {
        matches!(self.kind(), Kind::Comprehension { .. }) && self.enclosing() == Kind::Class
    }

    fn in_module_scope(&self) -> bool {
        self.kind() == Kind::Module
    }

    fn in_function_scope(&self) -> bool {
        matches!(self.kind(), Kind::Function { .. })
    }

    fn in_generator_context(&self) -> bool {
        matches!(self.kind(), Kind::Comprehension { is_generator, .. } if is_generator)
    }

    fn in_notebook(&self) -> bool {
        false
    }

    fn report_semantic_error(&self, error: SemanticSyntaxError) {
        self.found.borrow_mut().push(error);
    }

    fn in_loop_context(&self) -> bool {
        self.scopes.last().is_some_and(|scope| scope.is_loop)
    }

    fn is_bound_parameter(&self, _name: &str) -> bool {
        false
    }
}
