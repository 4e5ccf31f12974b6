//! What is refused and what is accepted, one small case each; a refusal stands beside its
//! harmless twin.

use crusades_scan::{NamedStrategy, Policy, ScanOptions, ScanReport, Strategy, scan};

const INNER_STEPS: &str =
    "def inner_steps(model, data_iterator, optimizer, num_steps, device):\n    return None\n";

fn scan_on(source: &str, num_gpus: u32) -> ScanReport {
    let options = ScanOptions {
        num_gpus,
        ..ScanOptions::default()
    };
    scan(source.as_bytes(), &Policy::builtin(), &options)
}

/// The rules that a whole file breaks.
fn rules_of(source: &str) -> Vec<&'static str> {
    let mut rules: Vec<_> = scan_on(source, 1)
        .findings
        .iter()
        .map(|finding| finding.rule.as_str())
        .collect();
    rules.dedup();
    rules
}

#[track_caller]
fn refused(rule: &str, snippet: &str) {
    let source = format!("{INNER_STEPS}{snippet}\n");
    let rules = rules_of(&source);
    assert!(
        rules.contains(&rule),
        "{snippet}\nbroke {rules:?}, expected {rule}"
    );
}

#[track_caller]
fn accepted(snippet: &str) {
    let source = format!("{INNER_STEPS}{snippet}\n");
    let report = scan_on(&source, 1);
    assert!(report.accepted(), "{snippet}\n{:#?}", report.findings);
}

#[test]
fn the_guides_own_example_is_accepted() {
    accepted(include_str!("../fixtures/honest/guide_reference.py"));
}

#[test]
fn imports() {
    refused("CRU201", "import os");
    refused("CRU201", "import os.path as p");
    refused("CRU201", "from os import path");
    refused("CRU201", "def f():\n    import subprocess");
    refused("CRU201", "import torch.utils.cpp_extension");
    refused("CRU201", "from torch.utils import dlpack");
    refused(
        "CRU201",
        "from torch.utils.cpp_extension import load_inline",
    );
    refused(
        "CRU201",
        "try:\n    import time\nexcept ImportError:\n    pass",
    );
    refused("CRU202", "import antigravity");
    refused("CRU203", "from . import x");
    refused("CRU203", "from ..x import y");
    refused("CRU204", "from torch import *");
    accepted("import torch\nimport torch.nn as nn\nimport torch.nn.functional as F");
    accepted("from torch.utils.checkpoint import checkpoint\nimport triton.language as tl");
    accepted("import math, functools\nimport numpy as np");
    accepted("from torch.distributed.fsdp import FullyShardedDataParallel as FSDP");
}

#[test]
fn torch_under_another_name() {
    for snippet in [
        "import torch as t",
        "import torch\nt = torch",
        "import torch\nif (t := torch): pass",
        "import torch\na, (b, *c) = 1, (torch, 2)",
        "import torch\ndef f(t=torch): pass",
        "import torch\nfor t in [torch]: pass",
        "import torch\nwith torch as t: pass",
        "import torch\n[t for t in (torch,)]",
        "import torch\nf = lambda t=torch: t",
        "import torch\nclass C:\n    t = torch",
        "import torch\nd = {'t': torch}",
        "import torch.nn.functional as F\nF.torch.zeros(1)",
        "torch = None",
        "def f(torch): pass",
    ] {
        refused("CRU301", snippet);
    }
    accepted("import torch\nx = torch.zeros(1)\nnn = torch.nn\nf = torch.compile");
    accepted("import torch as torch");
}

#[test]
fn builtins() {
    for snippet in [
        "eval('1')",
        "f = exec",
        "map(getattr, [])",
        "__import__('os')",
        "open('f')",
        "class C:\n    @property\n    def p(self): pass",
        "def f(x=globals): pass",
        "compile('1', '', 'eval')",
        "ｅｘｅｃ('1')",
        "eval = 1\neval('1')",
        "input()",
    ] {
        refused("CRU302", snippet);
    }
    accepted("def f(input):\n    return input + 1");
    accepted("def f(model):\n    model.eval()\n    return hasattr(model, 'logits')");
    accepted("class C:\n    @staticmethod\n    def f(x): return type(x)");
    accepted("x = f(input=1, dir='a')\ny = x.open");
}

#[test]
fn attributes() {
    for snippet in [
        "().__class__.__bases__",
        "f.__globals__",
        "def f(x):\n    match x:\n        case object(__dict__=d): pass",
        "class C:\n    def __getattribute__(self, n): pass",
        "x.gi_frame",
        "x.tb_frame.f_back",
        "x.__class__ = y",
    ] {
        refused("CRU401", snippet);
    }
    accepted("name = model.__class__.__name__\nclass C:\n    def __call__(self): pass");
    accepted("for m in model.modules():\n    pass");
    refused("CRU402", "optimizer.optimizer.step()");
    refused("CRU402", "optimizer._opt_impl");
    accepted("class T:\n    def f(self): self.optimizer.step()");
    refused("CRU403", "model.compile()");
    accepted("import torch\nm = torch.compile(model)");
    refused("CRU303", "import torch\nx = torch.load('f')");
    refused("CRU303", "from torch import load as l");
    refused("CRU404", "x.load('f', weights_only=False)");
    accepted("import triton.language as tl\ndef k(p): return tl.load(p, mask=p < 1)");
    refused("CRU305", "type('T', (), {})");
    refused("CRU305", "t = type\nt('T', (), {})");
    accepted("t = type(model.layers[0])");
}

#[test]
fn modules_behind_modules() {
    refused("CRU205", "import torch\ntorch.os.system('ls')");
    refused("CRU205", "import functools\nx = functools.os");
    refused("CRU205", "import torch.nn.functional as F\nF.torch.sys");
    refused("CRU205", "import torch\nu = torch.utils\nu.data.os");
    accepted("import torch\ntorch.types.Device\ntorch.signal.windows.hann(3)");
}

#[test]
fn writes_to_torch() {
    for snippet in [
        "import torch\ntorch.Tensor.__add__ = f",
        "from torch import Tensor as T\nT.sub = f",
        "import torch\nT = torch.Tensor\nU = T\nU.add = f",
        "import torch\ndel torch.Tensor.add",
        "import torch\ntorch.compile = lambda m, **k: m",
        "import torch\ntorch.nn.functional.cross_entropy += 1",
        "import torch\nfor torch.cuda.synchronize in [f]: pass",
        "import torch\nwith f() as torch.Tensor.x: pass",
        "import torch\n(torch.Tensor.a, b) = 1, 2",
        "import torch\nfor c in [torch.Tensor, torch.nn.Module]:\n    c.add = f",
        "import torch\ndef patch(c):\n    c.add = f\npatch(torch.Tensor)",
        "import torch\n(lambda: torch.Tensor)().add = f",
        "import torch\nclass H: pass\nh = H()\nh.t = torch.Tensor\nh.t.add = f",
        "import torch\nd = {}\nd['t'] = torch.Tensor\nd['t'].add = f",
        "import math\nmath.sqrt = f",
    ] {
        refused("CRU501", snippet);
    }
    accepted("model.config.use_cache = False\nlayer = model.layers[0]\nlayer.forward = f");
    accepted("import torch\nx = torch.zeros(2)\nx.data = x + 1\nx.grad = None");
    accepted(
        "import torch\nclass M(torch.nn.Module):\n    def __init__(self):\n        self.w = 1",
    );
    accepted("import torch\ntorch._dynamo.config.cache_size_limit = 64");
    accepted("import torch._inductor.config as config\nconfig.max_autotune = True");
}

#[test]
fn backend_settings() {
    accepted("import torch\ntorch.backends.cudnn.deterministic = True");
    accepted("import torch\ntorch.backends.cudnn.benchmark = False");
    accepted("import torch\ntorch.backends.cuda.matmul.allow_tf32 = True");
    for snippet in [
        "import torch\ntorch.backends.cudnn.deterministic = False",
        "import torch\ntorch.backends.cudnn.benchmark = True",
        "import torch\ntorch.backends.cudnn.benchmark = not True",
        "import torch\nx = torch.backends.cudnn.benchmark = False",
        "import torch\ntorch.backends.cudnn.benchmark |= False",
        "import torch\ntorch.backends.cudnn.enabled = False",
        "import torch\ntorch.set_float32_matmul_precision('high')",
        "import torch\ntorch.backends.cuda.enable_flash_sdp(True)",
        "from torch import set_float32_matmul_precision as s",
        "from torch.backends import cudnn as c\nc.benchmark = True",
    ] {
        refused("CRU502", snippet);
    }
    let strict = Policy::builtin_toml().replace(
        "allow_deterministic_cudnn = true",
        "allow_deterministic_cudnn = false",
    );
    let source = format!("{INNER_STEPS}import torch\ntorch.backends.cudnn.benchmark = False\n");
    let report = scan(
        source.as_bytes(),
        &Policy::from_toml(&strict).unwrap(),
        &ScanOptions::default(),
    );
    assert_eq!(report.error_code(), Some("security_violation"));
}

#[test]
fn gradients_and_configuration() {
    refused(
        "CRU503",
        "for p in model.parameters(): p.requires_grad = False",
    );
    refused("CRU503", "model.requires_grad_(False)");
    refused("CRU503", "import torch\nwith torch.inference_mode(): pass");
    accepted(
        "import torch\nwith torch.no_grad(): pass\nn = [p for p in model.parameters() if p.requires_grad]",
    );
    refused("CRU504", "model.config.sliding_window = 5");
    accepted("w = model.config.sliding_window");
}

#[test]
fn strings() {
    refused("CRU601", "x = '__globals__'");
    refused("CRU601", "x = f'{y}.__globals__'");
    refused("CRU601", "hasattr(x, '__globals__')");
    refused("CRU601", "x = 'ev' + 'al'");
    refused("CRU601", "x = {'k': ['__subclasses__']}");
    refused("CRU601", "f(x[0], 'bals__'.join(['__glo', '']))");
    refused(
        "CRU601",
        "def f(a='__glo'):\n    b = 'bals__'\n    return a + b",
    );
    refused("CRU601", "x = '%c%c' % (95, 95) + 'dict' + '_' * 2");
    accepted("mode = 'eval'\nname = 'in' + 'put_ids'\nx = '=' * 80");
    accepted("print('step %d loss %.3f' % (1, 2.0), 'a,b'.split(','))");
    accepted("'''The __globals__ of a function.'''");
    accepted("x = 'globals of the model'\nprint(f'loss {x}')");
    refused("CRU602", "def f(e): return bytes([1, 2]).decode(e)");
    refused("CRU602", "def f(n): return '%c' % n");
    refused("CRU602", "def f(n): return f'{n:c}' + '{:c}'.format(n)");
    refused("CRU602", "def f(b, e): return str(b, e)");
    refused("CRU602", "x = b'rkrp'.decode('rot13')");
    refused("CRU602", "def f(h): return bytes.fromhex(h)");
    accepted("def f(t, ids): return t.decode(ids, skip_special_tokens=True)");
    accepted("x = b'abc'.decode()\ny = str(1)\nz = '%5.2f%%' % 1.0");
    refused("CRU603", &format!("x = b'{}'", "a".repeat(257)));
    accepted(&format!("x = b'{}'", "a".repeat(256)));
}

#[test]
fn name_is_never_bound() {
    for snippet in [
        "__name__ = '__main__'",
        "def f(__name__): pass",
        "def __name__(): pass",
        "import math as __name__",
        "try: pass\nexcept E as __name__: pass",
        "[1 for __name__ in x]",
        "def f():\n    global __name__",
        "del __name__",
        "match x:\n    case __name__: pass",
        "def f[__name__](): pass",
        "if __name__ == '__main__':\n    __name__ = 'x'",
        "x.__name__ = 'y'",
    ] {
        refused("CRU304", snippet);
    }
    accepted("n = __name__\nm = model.__class__.__name__");
}

#[test]
fn main_blocks_are_removed_and_lines_stay() {
    let source = format!(
        "import math\nif __name__ == '__main__':\n    import os\n    os.x = 'é'\n{INNER_STEPS}"
    );
    let report = scan_on(&source, 1);
    assert!(report.accepted(), "{:?}", report.findings);
    let runnable = report.runnable_source.unwrap();
    assert_eq!(runnable.lines().count(), source.lines().count());
    assert!(!runnable.contains("os"));
    assert_eq!(runnable.lines().nth(4), source.lines().nth(4));
}

#[test]
fn every_spelling_of_the_main_block_is_removed() {
    for test in [
        "__name__ == '__main__'",
        "'__main__' == __name__",
        "(__name__) == ('__ma' 'in__')",
        "__name__ == '__ma' + 'in__'",
        "__name__ in ('__main__',)",
        "not __name__ != '__main__'",
        "(\n  __name__ ==\n  '__main__'\n)",
        "__name__ == '__main__' and x",
    ] {
        accepted(&format!("if {test}:\n    import os"));
        accepted(&format!("if {test}: import os"));
        accepted(&format!("if {test}:\n    import os\nelse:\n    y = 1"));
        refused(
            "CRU201",
            &format!("if {test}:\n    y = 1\nelse:\n    import os"),
        );
        refused(
            "CRU201",
            &format!("if {test}:\n    y = 1\nelif x:\n    import os"),
        );
        accepted(&format!(
            "if x:\n    y = 1\nelif {test}:\n    import os\nelse:\n    y = 2"
        ));
    }
    for test in ["__name__ != '__main__'", "__name__ not in ['__main__']"] {
        refused("CRU201", &format!("if {test}:\n    import os"));
        accepted(&format!("if {test}:\n    y = 1\nelse:\n    import os"));
    }
    refused("CRU201", "if __name__ == 'main':\n    import os");
    refused("CRU201", "if x == '__main__':\n    import os");
    refused(
        "CRU201",
        "def f():\n    if __name__ == '__main__':\n        import os",
    );
}

#[test]
fn the_shape_is_required() {
    assert_eq!(rules_of(""), ["CRU001"]);
    assert_eq!(rules_of("# nothing\n"), ["CRU001"]);
    assert_eq!(rules_of("x = 1\n"), ["CRU101"]);
    assert_eq!(
        rules_of("class C:\n    def inner_steps(a, b, c, d, e): pass\n"),
        ["CRU101"]
    );
    assert_eq!(
        rules_of("async def inner_steps(a, b, c, d, e): pass\n"),
        ["CRU102"]
    );
    assert_eq!(rules_of("def inner_steps(a, b, c, d): pass\n"), ["CRU102"]);
    assert_eq!(rules_of("def inner_steps(*a): pass\n"), ["CRU102"]);
    assert_eq!(
        rules_of("def inner_steps(a, b, c, d, e, f): pass\n"),
        ["CRU102"]
    );
    assert!(
        rules_of("def inner_steps(a, b, c, d, e, num_gpus=1, *r, k=1, **o): pass\n").is_empty()
    );
    assert_eq!(
        scan_on("x = 1\n", 1).error_code(),
        Some("missing_inner_steps")
    );
    assert_eq!(
        scan_on("import os\n", 1).error_code(),
        Some("security_violation")
    );
    assert_eq!(scan_on("def f(:\n", 1).error_code(), Some("syntax_error"));
    assert_eq!(scan_on("", 1).error_code(), Some("no_code"));
}

#[test]
fn the_strategy_is_read_and_not_run() {
    let read = |body: &str, num_gpus| {
        scan_on(
            &format!("{INNER_STEPS}def get_strategy():\n    {body}\n"),
            num_gpus,
        )
    };
    let report = read("return 'ddp'", 4);
    assert_eq!(report.strategy, Some(Strategy::Named(NamedStrategy::Ddp)));
    assert!(report.accepted());
    let report = read("return {'dp_size': 2, 'tp_size': 2}", 4);
    assert_eq!(
        report.strategy,
        Some(Strategy::Grid {
            dp_size: 2,
            tp_size: 2
        })
    );
    assert!(report.accepted());
    for body in [
        "return {'dp_size': 2, 'tp_size': 3}",
        "return {'dp_size': 4}",
        "return 'd' + 'dp'",
        "return 'zero'",
        "x = 'ddp'; return x",
        "return {'dp_size': -2, 'tp_size': -2}",
        "return",
    ] {
        let report = read(body, 4);
        assert_eq!(report.error_code(), Some("missing_inner_steps"), "{body}");
    }
    assert!(!scan_on(INNER_STEPS, 2).accepted());
    assert!(scan_on(INNER_STEPS, 1).accepted());
    assert_eq!(
        serde_json::to_string(&Strategy::Named(NamedStrategy::Fsdp)).unwrap(),
        "\"fsdp\""
    );
}
