//! What submissions do to their process, to the protocol and to their results. Each hostile row
//! has a harmless twin: its own, or a part of one of the rows named "harmless".

use serde_json::json;

use crate::places::environment_is_there;
use crate::submission::HONEST;
use crate::table::Expected::{self, Accepted, Failed, Refused};
use crate::table::{Row, judge_all};

/// The kinds of refusal that only the trained weights can bring about.
const WEIGHTS: &[&str] = &["weight_mismatch", "update_mismatch"];

#[test]
fn whatever_a_submission_does_to_its_process_has_a_code_of_its_own() {
    if environment_is_there() {
        judge_all(process_rows());
    }
}

#[test]
fn whatever_a_submission_writes_to_the_control_socket_is_recognised() {
    if environment_is_there() {
        judge_all(protocol_rows());
    }
}

#[test]
fn whatever_a_submission_returns_is_read_as_what_it_is() {
    if environment_is_there() {
        judge_all(result_rows());
    }
}

#[test]
fn only_the_training_that_was_asked_for_is_accepted() {
    if environment_is_there() {
        judge_all(training_rows());
    }
}

fn process_rows() -> Vec<Row> {
    let short = || json!({ "eval_timeout": 10 });
    vec![
        Row::new(
            "harmless: much of what hostile rows do, in small",
            r#"
if timed:
    children = [subprocess.Popen(["/bin/sh", "-c", "exit 0"]) for _ in range(5)]
    for child in children:
        child.wait()
    try:
        raise SystemExit(3)
    except SystemExit:
        pass
    ballast = bytearray(100 << 20)
    print("x" * (1 << 20))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1)
return train(model, data_iterator, optimizer, num_steps)
"#,
            Accepted,
        )
        .module("import signal, subprocess, time")
        .past_the_scan(),
        Row::new(
            "exits in the warm-up",
            "os._exit(3)",
            Failed("warmup_failed", "process_exited", "status 3 in the warm-up"),
        )
        .module("import os")
        .past_the_scan(),
        Row::new(
            "exits at import",
            HONEST,
            Failed("warmup_failed", "process_exited", "status 0"),
        ).thorough()
        .module("import os\nos._exit(0)")
        .past_the_scan(),
        Row::new(
            "exits in the timed run only",
            "if timed:\n    os._exit(0)\nreturn train(model, data_iterator, optimizer, num_steps)",
            Failed("execution_failed", "process_exited", "status 0 in the timed run"),
        )
        .module("import os")
        .past_the_scan(),
        Row::new(
            "exits and leaves a child that holds the socket",
            r#"
if timed and os.fork() == 0:
    time.sleep(1000)
if timed:
    os._exit(5)
return train(model, data_iterator, optimizer, num_steps)
"#,
            Failed("execution_failed", "process_exited", "status 5"),
        )
        .module("import os, time")
        .past_the_scan(),
        Row::new(
            "raises SystemExit",
            "raise SystemExit(3)",
            Failed("warmup_failed", "raised", "SystemExit: 3"),
        ),
        Row::new(
            "raises KeyboardInterrupt in the timed run",
            "if timed:\n    raise KeyboardInterrupt\nreturn train(model, data_iterator, optimizer, num_steps)",
            Failed("execution_failed", "raised", "KeyboardInterrupt"),
        ).thorough(),
        Row::new(
            "raises in the warm-up",
            "raise ValueError('out of ideas \\ud800 \\x1b[31m')",
            Failed("warmup_failed", "raised", "ValueError: out of ideas"),
        ),
        Row::new(
            "raises at import",
            HONEST,
            Failed("warmup_failed", "raised", "ZeroDivisionError"),
        ).thorough()
        .module("1 / 0"),
        Row::new(
            "raises something that cannot be shown",
            "raise Sly('x')",
            Failed("warmup_failed", "raised", "Sly"),
        ).thorough()
        .module(
            "class Sly(Exception):\n    def __str__(self):\n        raise RuntimeError\n    def __repr__(self):\n        raise RuntimeError",
        ),
        Row::new(
            "recurses without end",
            "return inner_steps(model, data_iterator, optimizer, num_steps, device)",
            Failed("warmup_failed", "raised", "RecursionError"),
        ).thorough(),
        Row::new(
            "crashes in native code",
            "ctypes.string_at(0)",
            Failed("warmup_failed", "process_killed", "signal 11"),
        )
        .module("import ctypes")
        .past_the_scan(),
        Row::new(
            "kills all it can reach",
            "if timed:\n    os.kill(1, 9)\n    subprocess.run([\"/bin/sh\", \"-c\", \"kill -9 -1; kill -9 $PPID\"])\nreturn train(model, data_iterator, optimizer, num_steps)",
            Failed("execution_failed", "process_killed", "signal 9"),
        )
        .module("import os, subprocess")
        .past_the_scan(),
        Row::new(
            "hangs in the warm-up",
            "while True:\n    pass",
            Failed("timeout", "no_reply", "within 10 s in the warm-up"),
        )
        .with(short()),
        Row::new(
            "hangs at import",
            HONEST,
            Failed("timeout", "no_reply", "within 10 s"),
        ).thorough()
        .module("while True:\n    pass")
        .with(short()),
        Row::new(
            "hangs in the timed run and ignores signals",
            r#"
if timed:
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    time.sleep(1000)
return train(model, data_iterator, optimizer, num_steps)
"#,
            Failed("timeout", "no_reply", "in the timed run"),
        )
        .module("import signal, time")
        .past_the_scan()
        .with(short()),
        Row::new(
            "stops itself",
            "os.kill(os.getpid(), signal.SIGSTOP)",
            Failed("timeout", "no_reply", ""),
        ).thorough()
        .module("import os, signal")
        .past_the_scan()
        .with(short()),
        Row::new(
            "leaves children in other sessions and trains",
            r#"
if timed:
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.close(3)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(1000)
            os._exit(0)
return train(model, data_iterator, optimizer, num_steps)
"#,
            Accepted,
        )
        .module("import os, signal, time")
        .past_the_scan(),
        Row::new(
            "leaves threads and trains",
            "threading.Thread(target=time.sleep, args=(1000,)).start()\nreturn train(model, data_iterator, optimizer, num_steps)",
            Accepted,
        ).thorough()
        .module("import threading, time")
        .past_the_scan(),
        Row::new(
            "is a fork bomb",
            r#"
while True:
    try:
        if os.fork() == 0:
            time.sleep(0.01)
    except OSError:
        time.sleep(0.01)
"#,
            Failed("timeout", "no_reply", "in the warm-up"),
        )
        .module("import os, time")
        .past_the_scan()
        .with(short()),
        Row::new(
            "leaves many children and trains",
            r#"
if timed:
    for _ in range(100):
        if os.fork() == 0:
            time.sleep(1000)
return train(model, data_iterator, optimizer, num_steps)
"#,
            Accepted,
        ).thorough()
        .module("import os, time")
        .past_the_scan(),
        Row::new(
            "fills the memory",
            "hoard = []\nwhile timed:\n    hoard.append(bytearray(16 << 20))\nreturn train(model, data_iterator, optimizer, num_steps)",
            Failed("out_of_memory", "", "memory"),
        ),
        Row::new(
            "fills the memory in a child",
            r#"
if timed:
    if os.fork() == 0:
        hoard = []
        while True:
            hoard.append(bytearray(16 << 20))
    os.wait()
return train(model, data_iterator, optimizer, num_steps)
"#,
            Failed("out_of_memory", "", "memory"),
        ).thorough()
        .module("import os")
        .past_the_scan(),
        Row::new(
            "asks for more memory than there is",
            "torch.empty(1 << 52)",
            Failed("out_of_memory", "raised", "in the warm-up"),
        ).thorough(),
        Row::new(
            "fills the temporary folder",
            r#"
with open("/tmp/hoard", "wb") as file:
    while True:
        file.write(bytes(1 << 20))
"#,
            Failed("warmup_failed", "raised", "No space left"),
        )
        .past_the_scan(),
        Row::new(
            "floods the log",
            "while True:\n    print('x' * 100_000)",
            Failed("warmup_failed", "log_flood", "log limit"),
        ).thorough(),
        Row::new(
            "prints 100 MB in the timed run and returns",
            "for _ in range(100 * timed):\n    print('x' * 1_000_000)\nreturn train(model, data_iterator, optimizer, num_steps)",
            Failed("execution_failed", "log_flood", "log limit"),
        ).thorough(),
        Row::new(
            "closes standard output and error",
            "if timed:\n    os.close(0), os.close(1), os.close(2)\nreturn train(model, data_iterator, optimizer, num_steps)",
            Accepted,
        ).thorough()
        .module("import os")
        .past_the_scan(),
    ]
}

fn protocol_rows() -> Vec<Row> {
    const FRAMES: &str = r#"
import json, os, struct, time


def send(message):
    body = json.dumps(message).encode()
    os.write(3, struct.pack("<I", len(body)) + body)


def trained(nonce="0" * 64):
    send({"type": "trained", "nonce": nonce, "loss_bits": 4618441417868443648, "total_tokens": 640,
          "logits": {"dtype": "float32", "shape": [4, 31, 512]}, "seconds": 0.1,
          "peak_memory_bytes": 1})


def answer(nonce="0" * 64):
    send({"type": "answer", "nonce": nonce, "logit_rows": 0, "tensors": [],
          "trainable_parameters": 139840})
"#;
    let row = |name, body, expected| {
        Row::new(name, body, expected)
            .module(FRAMES)
            .past_the_scan()
    };
    let broken = |headline| Failed("execution_failed", "protocol_violation", headline);
    vec![
        row(
            "closes the socket",
            "if timed:\n    os.close(3)\nreturn train(model, data_iterator, optimizer, num_steps)",
            Failed("execution_failed", "", "in the timed run"),
        ),
        row(
            "closes the socket and lives on",
            "if timed:\n    os.close(3)\n    time.sleep(1000)\nreturn train(model, data_iterator, optimizer, num_steps)",
            Failed("execution_failed", "connection_closed", "control socket was closed"),
        ).thorough(),
        row(
            "writes garbage to the socket",
            "if timed:\n    os.write(3, b'garbage' * 10)\nreturn train(model, data_iterator, optimizer, num_steps)",
            broken("frame of"),
        ),
        row(
            "announces a frame of 4 GB",
            "if timed:\n    os.write(3, b'\\xff\\xff\\xff\\xff')\nreturn train(model, data_iterator, optimizer, num_steps)",
            broken("frame of 4294967295 bytes"),
        ).thorough(),
        row(
            "writes half a frame and waits",
            "if timed:\n    os.write(3, struct.pack('<I', 1000) + b'{')\n    time.sleep(1000)\nreturn train(model, data_iterator, optimizer, num_steps)",
            Failed("timeout", "no_reply", "in the timed run"),
        )
        .with(json!({ "eval_timeout": 10 })),
        row(
            "writes half a frame and goes on",
            "if timed:\n    os.write(3, struct.pack('<I', 20) + b'{')\nreturn train(model, data_iterator, optimizer, num_steps)",
            broken("no message"),
        ).thorough(),
        row(
            "writes deeply nested JSON",
            "if timed:\n    os.write(3, struct.pack('<I', 100_000) + b'[' * 100_000)\nreturn train(model, data_iterator, optimizer, num_steps)",
            broken("no message"),
        ).thorough(),
        row(
            "forges a frame with a wrong nonce",
            "if timed:\n    trained()\nreturn train(model, data_iterator, optimizer, num_steps)",
            broken("answered `question` with `trained`"),
        ),
        row(
            "forges both frames with wrong nonces",
            "if timed:\n    trained()\n    answer()\n    time.sleep(1000)\nreturn train(model, data_iterator, optimizer, num_steps)",
            broken("does not belong to its question"),
        ),
        row(
            "forges both frames in the warm-up",
            "trained()\nanswer()\ntime.sleep(1000)",
            Failed("warmup_failed", "protocol_violation", "does not belong to its question"),
        ).thorough(),
        row(
            "forges frames ahead of time",
            "result = train(model, data_iterator, optimizer, num_steps)\nif not timed:\n    send({'type': 'restored'})\nreturn result",
            Failed("warmup_failed", "protocol_violation", "answered `run` with `restored`"),
        ),
        row(
            "claims that the machine is at fault",
            "raise submission.Refused('model', 'the disk of the validator is full')",
            Failed("warmup_failed", "", ""),
        )
        .module("import submission"),
        row(
            "forges an unknown kind of failure",
            "raise submission.Refused('sandbox_failed', 'try again')",
            Failed("warmup_failed", "protocol_violation", ""),
        ).thorough()
        .module("import submission"),
    ]
}

fn result_rows() -> Vec<Row> {
    fn returns(name: &'static str, change: &'static str, expected: Expected) -> Row {
        // Leaked: a few bytes per row of a test.
        let body = format!(
            "result = train(model, data_iterator, optimizer, num_steps)\nif timed:\n    {change}\nreturn result"
        );
        Row::new(name, Box::leak(body.into_boxed_str()), expected)
    }
    let shape = |headline| Refused(&["invalid_logits_shape"], headline);
    let invalid = |headline| Failed("invalid_return_type", "", headline);
    let tokens = Refused(&["token_count_mismatch"], "");
    vec![
        returns("harmless: logits of another float type", "result.final_logits = result.final_logits.double()", Accepted).thorough(),
        returns("harmless: logits that are a view", "result.final_logits = result.final_logits.transpose(0, 1).contiguous().transpose(0, 1)", Accepted).thorough(),
        returns(
            "harmless: the honest final state, as PyTorch gives it",
            "result.final_state = {name: value.cpu() for name, value in model.state_dict().items()}",
            Accepted,
        ),
        returns("harmless: state_dict() itself", "result.final_state = model.state_dict()", Accepted),
        Row::new(
            "harmless: a result with properties that are computed when they are read",
            "return Lazy(lambda: train(model, data_iterator, optimizer, num_steps))",
            Accepted,
        )
        .module(
            "class Lazy:\n    def __init__(self, work):\n        self.work = work\n        self.result = None\n    def __getattr__(self, name):\n        if self.result is None:\n            self.result = self.work()\n        return self.result.__dict__[name]",
        )
        .past_the_scan(),
        returns("returns None", "result = None", invalid("returned None")),
        returns("returns a tuple", "result = (1, 2)", invalid("tuple, which has no attribute")).thorough(),
        returns("loss is NaN", "result.final_loss = float('nan')", Refused(&["loss_mismatch"], "")),
        returns("loss is infinite", "result.final_loss = float('inf')", Refused(&["loss_mismatch"], "")).thorough(),
        returns("loss is negative", "result.final_loss = -result.final_loss", Refused(&["loss_mismatch"], "")).thorough(),
        returns("loss is far off", "result.final_loss += 0.4", Refused(&["loss_mismatch"], "")).thorough(),
        returns("loss is slightly off", "result.final_loss += 0.2", Accepted).thorough(),
        returns("loss is a tensor", "result.final_loss = torch.tensor(6.0)", invalid("final_loss is of type torch.Tensor")),
        returns("loss is an integer that no float holds", "result.final_loss = 10 ** 400", Refused(&["loss_mismatch"], "")).thorough(),
        returns("loss is lazy", "result.final_loss = Late()", invalid("final_loss is of type train.Late"))
            .module("class Late:\n    def __float__(self):\n        return 6.0"),
        returns("logits are None", "result.final_logits = None", Refused(&["missing_logits"], "no output logits")),
        returns("logits are flattened", "result.final_logits = result.final_logits.reshape(-1, 512)", shape("wrong shape")),
        returns("logits are of integers", "result.final_logits = result.final_logits.int()", shape("dtype")).thorough(),
        returns("logits have a smaller vocabulary", "result.final_logits = result.final_logits[:, :, :500]", shape("wrong shape")).thorough(),
        returns("logits have fewer rows", "result.final_logits = result.final_logits[:2]", shape("wrong shape")).thorough(),
        returns("logits are cut short", "result.final_logits = result.final_logits[:, :20]", Refused(&["sequence_truncation"], "whole sequence")),
        returns("logits have no elements", "result.final_logits = torch.empty(0)", shape("wrong shape")).thorough(),
        returns("logits have 60 dimensions", "result.final_logits = torch.zeros([1] * 60)", shape("wrong shape")).thorough(),
        returns("logits are a scalar", "result.final_logits = torch.tensor(1.0)", shape("wrong shape")).thorough(),
        returns("logits are on no device", "result.final_logits = torch.empty(4, 31, 512, device='meta')", Failed("execution_failed", "raised", "")).thorough(),
        returns("logits are sparse", "result.final_logits = result.final_logits.to_sparse()", Failed("execution_failed", "raised", "")).thorough(),
        returns("logits are of a subclass", "result.final_logits = result.final_logits.as_subclass(Late)", invalid("final_logits is of type train.Late"))
            .module("class Late(torch.Tensor):\n    pass"),
        returns("logits are a list", "result.final_logits = result.final_logits.tolist()", invalid("final_logits is of type list")).thorough(),
        returns("tokens are too few", "result.total_tokens -= 1", tokens),
        returns("tokens are negative", "result.total_tokens = -1", tokens).thorough(),
        returns("tokens are very many", "result.total_tokens = 1 << 62", tokens).thorough(),
        returns("tokens do not fit 64 bits", "result.total_tokens = 1 << 70", tokens).thorough(),
        returns("tokens have more digits than Python prints", "result.total_tokens = 1 << 100_000", tokens).thorough(),
        returns("tokens are a truth value", "result.total_tokens = True", invalid("total_tokens is of type bool")),
        returns("tokens are a fraction", "result.total_tokens = 640.0", invalid("total_tokens is of type float")).thorough(),
        returns(
            "weights are NaN",
            "with torch.no_grad():\n        model.model.norm.weight[0] = float('nan')",
            Refused(&["weight_nan"], ""),
        ),
        returns("weights are of another type", "model.half()", Refused(&["invalid_final_state_shape"], "")),
        returns("a weight has another shape", "model.model.norm.weight = torch.nn.Parameter(torch.ones(63))", Refused(&["invalid_final_state_shape"], "")).thorough(),
        returns("a module is deleted", "del model.model.layers[1]", Refused(&["incomplete_final_state"], "")),
        Row::new(
            "a module is deleted in the warm-up",
            "result = train(model, data_iterator, optimizer, num_steps)\nif not timed:\n    del model.model.layers[1]\nreturn result",
            Failed("execution_failed", "raised", "KeyError"),
        ).thorough(),
        returns("the final state is empty", "result.final_state = {}", Refused(&["incomplete_final_state"], "")),
        returns("the final state lacks a tensor", "result.final_state = dict(model.state_dict())\n    del result.final_state['model.norm.weight']", Refused(&["incomplete_final_state"], "")),
        returns(
            "the final state is made up",
            "result.final_state = {name: torch.rand(value.shape) for name, value in model.state_dict().items()}",
            Refused(WEIGHTS, ""),
        ),
        returns("the final state is a list", "result.final_state = []", invalid("final_state is of type list")).thorough(),
        returns(
            "the final state holds something else than tensors",
            "result.final_state = {name: 1.0 for name in model.state_dict()}",
            Refused(&["incomplete_final_state"], ""),
        ).thorough(),
    ]
}

const SKIPS_THE_LAST_STEP: &str = r"
tokens = 0
for step in range(num_steps):
    batch = next(data_iterator)
    tokens += batch.numel()
    if step < num_steps - 1:
        take_step(model, batch, optimizer)
    else:
        logits, loss = loss_of(model, batch)
return Result(logits.detach(), tokens, loss.item())
";

fn training_rows() -> Vec<Row> {
    let of = |name, body, expected| Row::new(name, body, expected).thorough();
    let refused = Refused(WEIGHTS, "");
    vec![
        of(
            "harmless: an update that is off by rounding only",
            r#"
start = {name: value.detach().clone() for name, value in model.named_parameters()}
result = train(model, data_iterator, optimizer, num_steps)
with torch.no_grad():
    for name, value in model.named_parameters():
        value.copy_(start[name] + (value - start[name]))
return result
"#,
            Accepted,
        ),
        of(
            "harmless: micro-batches",
            r#"
tokens = 0
for _ in range(num_steps):
    batch = next(data_iterator)
    parts = []
    total = 0.0
    for part in batch.chunk(2):
        logits, loss = loss_of(model, part)
        (loss / 2).backward()
        total += loss.item() / 2
        parts.append(logits.detach())
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    tokens += batch.numel()
return Result(torch.cat(parts), tokens, total)
"#,
            Accepted,
        ),
        of(
            "skips the last step",
            SKIPS_THE_LAST_STEP,
            refused,
        ),
        Row::new(
            "skips the last step, which its share in the update tells as well",
            SKIPS_THE_LAST_STEP,
            Refused(WEIGHTS, "Step 5 of 5 contributed 0.00 of its update"),
        )
        .with(json!({"verification": {"update_relative_error_max": null}})),
        of(
            "harmless: all weights are asked for after the clock has stopped",
            "return train(model, data_iterator, optimizer, num_steps)",
            Accepted,
        )
        .with(json!({"verification": {"weights": "full"}})),
        Row::new(
            "changes a weight between its answer and the dump of all weights",
            r#"
tools = sys.modules["model"]
original = tools.dump
def dump(found, layout, region):
    with torch.no_grad():
        next(iter(found.values())).view(-1)[0] += 1e-7
    return original(found, layout, region)
tools.dump = dump
return train(model, data_iterator, optimizer, num_steps)
"#,
            Refused(&["weight_mismatch"], "are not those that were answered"),
        )
        .with(json!({"verification": {"weights": "full"}}))
        .module("import sys")
        .past_the_scan(),
        of(
            "skips a step in the middle",
            r#"
tokens = 0
for step in range(num_steps):
    batch = next(data_iterator)
    tokens += batch.numel()
    if step != 2 or not timed:
        logits, loss = take_step(model, batch, optimizer)
return Result(logits.detach(), tokens, loss.item())
"#,
            refused,
        ),
        of(
            "trains on half of each batch",
            r#"
tokens = 0
for _ in range(num_steps):
    batch = next(data_iterator)
    tokens += batch.numel()
    half, loss = take_step(model, batch[:2], optimizer)
return Result(half.detach().repeat(2, 1, 1), tokens, loss.item())
"#,
            refused,
        ),
        of(
            "trains with nine tenths of the learning rate",
            "for group in optimizer.param_groups:\n    group['lr'] *= 0.9\nreturn train(model, data_iterator, optimizer, num_steps)",
            refused,
        ),
        of(
            "scales its update by a percent",
            r#"
start = {name: value.detach().clone() for name, value in model.named_parameters()}
result = train(model, data_iterator, optimizer, num_steps)
with torch.no_grad():
    for name, value in model.named_parameters():
        value.copy_(start[name] + 1.01 * (value - start[name]))
return result
"#,
            refused,
        ),
        of(
            "does nothing but look at the data",
            "tokens = sum(batch.numel() for batch in data_iterator)\nreturn Result(torch.zeros(4, 31, 512), tokens, 6.2)",
            Refused(&["insufficient_params_changed"], ""),
        ),
        of(
            "leaves a parameter frozen",
            "result = train(model, data_iterator, optimizer, num_steps)\nmodel.model.norm.weight.requires_grad_(not timed)\nreturn result",
            Refused(&["insufficient_trainable_params"], ""),
        )
        .past_the_scan(),
        of(
            "freezes a layer before training",
            "model.model.layers[0].requires_grad_(False)\nreturn train(model, data_iterator, optimizer, num_steps)",
            Refused(&["insufficient_trainable_params"], ""),
        ).thorough()
        .past_the_scan(),
        of(
            "patches what the worker copies with",
            r#"
result = train(model, data_iterator, optimizer, num_steps)
if timed:
    torch.Tensor.copy_ = lambda place, value: place.zero_()
return result
"#,
            Refused(&["weight_mismatch", "update_mismatch", "insufficient_params_changed"], ""),
        )
        .past_the_scan(),
        of(
            "patches the worker to write nothing",
            r#"
result = train(model, data_iterator, optimizer, num_steps)
sys.modules["model"].Sample.write = lambda self, found, region: [
    {"dtype": slot["dtype"], "shape": slot["shape"]} for slot in self._layout
]
return result
"#,
            Refused(&["weight_nan"], ""),
        )
        .module("import sys")
        .past_the_scan(),
        of(
            "writes the initial weights where the results belong",
            r#"
result = train(model, data_iterator, optimizer, num_steps)
if timed:
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    session = next(found for found in gc.get_objects() if type(found).__name__ == "Session")
    # This model is so small that all of it is asked for.
    for slot, asked in zip(session._layout, session._asked["sampled"]):
        initial = session._initial.tensor(slot["offset"], torch.float32, asked["shape"])
        session._results.tensor(asked["offset"], torch.float32, asked["shape"]).copy_(initial)
    sys.modules["model"].Sample.write = lambda self, found, region: [
        {"dtype": slot["dtype"], "shape": slot["shape"]} for slot in self._layout
    ]
return result
"#,
            Refused(&["insufficient_params_changed"], ""),
        )
        .module("import gc, sys")
        .past_the_scan(),
        of(
            "patches its clocks, which nothing depends on",
            r#"
time.perf_counter = time.monotonic = time.time = lambda: 0.0
sys.modules["session"]._clock = lambda: 0.0
return train(model, data_iterator, optimizer, num_steps)
"#,
            Accepted,
        )
        .module("import sys, time")
        .past_the_scan(),
        of(
            "makes the clock of the worker NaN",
            "sys.modules['session']._clock = lambda: float('nan')\nreturn train(model, data_iterator, optimizer, num_steps)",
            Failed("warmup_failed", "protocol_violation", ""),
        ).thorough()
        .module("import sys")
        .past_the_scan(),
    ]
}
