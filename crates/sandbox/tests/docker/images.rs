//! Which images and engines are taken, and what is said where they cannot be.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

use crusades_sandbox::selftest::{SelftestOptions, Verdict, run};
use crusades_sandbox::{
    Backend, DockerSettings, Mount, Sandbox, SandboxRequest, StartError, Tier, probe_docker,
};

use crate::support::{chain, engine, launcher, open_folder, output, start};
use crate::{contain, image, shell};

fn refusal(request: SandboxRequest) -> String {
    match Sandbox::start(request) {
        Ok(_) => panic!("it started"),
        Err(error) => chain(&error),
    }
}

/// What is said of an engine at this socket.
fn refusal_of(host: &str) -> String {
    let settings = DockerSettings {
        host: Some(host.to_owned()),
        ..DockerSettings::new("any")
    };
    let error = probe_docker(&settings, Some(&launcher())).expect_err("it is taken");
    assert!(matches!(error, StartError::Engine { .. }), "{error:?}");
    let text = chain(&error);
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn an_engine_that_cannot_be_used_is_told_in_one_line_with_what_to_do() {
    let folder = open_folder();
    let socket = folder.path().join("socket");
    let host = format!("unix://{}", socket.display());
    let text = refusal_of(&host);
    assert!(text.contains("is Docker installed and running?"), "{text}");
    let text = refusal_of("tcp://127.0.0.1:2375");
    assert!(text.contains("only unix:///PATH"), "{text}");
    // An engine of another age: nothing but its version is asked.
    let listener = UnixListener::bind(&socket).expect("listen");
    let answering = std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut reader = BufReader::new(connection);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {}
            if line.is_empty() {
                // Only a look whether someone listens.
                continue;
            }
            let body = r#"{"ApiVersion":"1.40","Version":"19.03"}"#;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let mut connection = reader.into_inner();
            connection.write_all(head.as_bytes()).expect("answer");
            connection.write_all(body.as_bytes()).expect("answer");
            return;
        }
    });
    let text = refusal_of(&host);
    assert!(text.contains("too old") && text.contains("1.41"), "{text}");
    answering.join().expect("join");
    let text = refusal_of(&host);
    assert!(text.contains("nobody listens there"), "{text}");
}

#[test]
fn a_socket_that_this_user_may_not_use_is_told_with_what_to_do() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let folder = open_folder();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("listen");
    crate::support::open_to_all(&socket, 0o600);
    let host = format!("unix://{}", socket.display());
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=1000", "--regid=1000", "--clear-groups"])
        .arg(launcher())
        .args(["--image", "any", "/bin/true"])
        .env("DOCKER_HOST", &host)
        .output();
    match output {
        Err(error) => println!("skipped: setpriv cannot be run: {error}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(
                text.contains("reach the container engine at unix://"),
                "{text}"
            );
        }
    }
}

#[test]
fn an_image_is_known_by_tag_or_id_and_a_missing_one_is_told_with_what_to_do() {
    let Some(settings) = image() else { return };
    let folder = open_folder();
    let tag = format!("moving-{}", std::process::id());
    let first = engine::import(folder.path(), &tag, &[]);
    let name = format!("crusades-sandbox-test:{tag}");
    let by_tag = DockerSettings::new(&name);
    probe_docker(&by_tag, Some(&launcher())).expect("it is there");
    // Another image takes the tag; here the tag still means the first one.
    let second = engine::import(folder.path(), &tag, &["ENV SECOND=1"]);
    assert_ne!(first, second);
    for (named, expected) in [(&name, &first), (&first, &first), (&second, &second)] {
        let mut request = shell(&DockerSettings::new(named.as_str()), "exit 0");
        request.mounts.push(Mount::in_place("/usr"));
        for path in ["/bin", "/lib", "/lib64"] {
            request.mounts.push(Mount {
                source: path.into(),
                target: path.into(),
            });
        }
        request.mounts.retain(|mount| mount.source.exists());
        let sandbox = start(request);
        assert_eq!(sandbox.image_id(), Some(expected.as_str()));
    }
    for id in [&first, &second] {
        engine::remove_image(id);
    }
    let text = refusal(shell(
        &DockerSettings::new("crusades-no-such-image:1"),
        "exit 0",
    ));
    assert!(
        text.contains("docker pull crusades-no-such-image:1"),
        "{text}"
    );
    let mut none = shell(&settings, "exit 0");
    none.force_tier = Some(Tier::Three);
    none.minimum_tier = Tier::Three;
    assert!(refusal(none).contains("at least tier 3"));
}

#[test]
fn what_an_image_asks_for_is_overridden_and_a_place_without_limits_is_refused() {
    let Some(settings) = image() else { return };
    let folder = open_folder();
    std::fs::create_dir(folder.path().join("etc")).expect("make a folder");
    crate::support::write_open(&folder.path().join("etc/ld.so.preload"), "/nowhere.so\n");
    let tag = format!("demanding-{}", std::process::id());
    let id = engine::import(
        folder.path(),
        &tag,
        &[
            "ENV LD_PRELOAD=/nowhere.so LD_LIBRARY_PATH=/nowhere",
            "ENTRYPOINT [\"/nowhere\"]",
            "USER 0",
            "WORKDIR /nowhere",
            "HEALTHCHECK CMD /nowhere",
        ],
    );
    // It has no program at all: this one brings all that it needs.
    let mut options = SelftestOptions::new(Tier::One);
    options.launcher = Some(launcher());
    options.backend = Backend::Docker(DockerSettings::new(&id));
    options.only = Some("own-environment".into());
    let results = run(&options, |_| ()).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].verdict, Verdict::Held, "{results:?}");
    engine::remove_image(&id);
    let id = engine::import(folder.path(), &tag, &["VOLUME /data"]);
    let text = refusal(shell(&DockerSettings::new(&id), "exit 0"));
    assert!(text.contains("volume /data"), "{text}");
    engine::remove_image(&id);
    // The control: the usual image.
    assert_eq!(output(shell(&settings, "echo runs")), "runs\n");
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let Some(settings) = image() else { return };
    for (change, expected) in [
        (
            Box::new(|request: &mut SandboxRequest| request.program = "/usr/bin/none".into())
                as Box<dyn Fn(&mut SandboxRequest)>,
            "execute /usr/bin/none: No such file",
        ),
        (
            Box::new(|request| request.mounts.push(Mount::in_place("/no/such/folder"))),
            "/no/such/folder: No such file",
        ),
        (
            Box::new(|request| request.limits.memory_bytes = 4096),
            "emory",
        ),
        (
            Box::new(|request| {
                for _ in 0..2 {
                    request.mounts.push(Mount::in_place("/usr/share"));
                }
            }),
            "show /usr/share: ",
        ),
    ] {
        let mut request = contain(crate::support::shell(Tier::One, "exit 0"), &settings);
        change(&mut request);
        let text = refusal(request);
        assert!(text.contains(expected), "{text}");
    }
}
