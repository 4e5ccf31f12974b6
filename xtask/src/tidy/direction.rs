//! Which crate of the workspace may depend on which. Dependencies for tests count as well.

use crate::workspace::Package;

/// Every crate of the workspace. A crate depends on earlier ones only.
const ORDER: &[&str] = &[
    "crusades-core",
    "crusades-scan",
    "crusades-numerics",
    "crusades-sandbox",
    "crusades-corpus",
    "crusades-environment",
    "crusades-evaluate",
    "crusades-store",
    "crusades",
    "xtask",
];

/// Crates of the workspace that a crate must not depend on although they come earlier.
fn is_forbidden(name: &str, dependency: &str) -> bool {
    match name {
        // Each is a subject of its own, and knows the domain at most.
        "crusades-scan" | "crusades-numerics" | "crusades-corpus" => dependency != "crusades-core",
        // The store keeps records, whoever judged.
        "crusades-store" => dependency == "crusades-evaluate",
        _ => false,
    }
}

/// What is wrong with the dependencies of the workspace's crates.
pub(super) fn problems(packages: &[Package]) -> Vec<String> {
    let place = |name: &str| ORDER.iter().position(|listed| *listed == name);
    let in_workspace = |name: &str| packages.iter().any(|package| package.name == name);
    let mut problems = Vec::new();
    for name in ORDER.iter().filter(|name| !in_workspace(name)) {
        problems.push(format!(
            "`{name}` stands in the order of dependencies and is no crate of the workspace"
        ));
    }
    for package in packages {
        let name = &package.name;
        let Some(own) = place(name) else {
            problems.push(format!(
                "`{name}` is missing in the order of dependencies ({})",
                file!()
            ));
            continue;
        };
        for dependency in &package.dependencies {
            // One that is not in the table is either no crate of ours, or reported above.
            let Some(other) = place(&dependency.name) else {
                continue;
            };
            if other >= own || is_forbidden(name, &dependency.name) {
                problems.push(format!("`{name}` must not depend on `{}`", dependency.name));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{ORDER, problems};
    use crate::workspace::Package;

    /// The whole workspace, in which these crates have these dependencies and the rest have none.
    fn workspace(dependencies: &[(&str, &[&str])]) -> Vec<Package> {
        let package = |name: &str, dependencies: &[&str]| -> Package {
            let dependencies: Vec<_> = dependencies
                .iter()
                .map(|name| serde_json::json!({"name": name}))
                .collect();
            let json = serde_json::json!({
                "name": name, "manifest_path": "", "dependencies": dependencies, "targets": [],
            });
            serde_json::from_value(json).unwrap()
        };
        let given = |name: &str| dependencies.iter().find(|(given, _)| *given == name);
        let listed = ORDER
            .iter()
            .map(|name| package(name, given(name).map_or(&[][..], |(_, it)| it)));
        let unlisted = dependencies
            .iter()
            .filter(|(name, _)| !ORDER.contains(name))
            .map(|(name, dependencies)| package(name, dependencies));
        listed.chain(unlisted).collect()
    }

    #[test]
    fn a_crate_depends_on_earlier_ones_and_on_crates_of_others() {
        let allowed = workspace(&[
            ("crusades-scan", &["crusades-core", "serde"]),
            ("crusades-evaluate", &["crusades-core", "crusades-sandbox"]),
            ("crusades-store", &["crusades-core"]),
            ("crusades", &["crusades-evaluate", "crusades-store"]),
        ]);
        assert_eq!(problems(&allowed), [""; 0]);
    }

    #[test]
    fn a_crate_does_not_depend_on_later_ones_or_on_itself() {
        for (name, dependency) in [
            ("crusades-core", "crusades-scan"),
            ("crusades-sandbox", "crusades-evaluate"),
            ("crusades-evaluate", "crusades-evaluate"),
        ] {
            assert_eq!(
                problems(&workspace(&[(name, &[dependency])])),
                [format!("`{name}` must not depend on `{dependency}`")]
            );
        }
    }

    #[test]
    fn some_crates_do_not_depend_on_all_earlier_ones() {
        for (name, dependency) in [
            ("crusades-numerics", "crusades-scan"),
            ("crusades-corpus", "crusades-sandbox"),
            ("crusades-store", "crusades-evaluate"),
        ] {
            assert_eq!(problems(&workspace(&[(name, &[dependency])])).len(), 1);
            assert_eq!(problems(&workspace(&[(name, &["crusades-core"])])), [""; 0]);
        }
    }

    #[test]
    fn a_crate_that_is_not_in_the_order_or_in_the_workspace_is_named() {
        let found = problems(&workspace(&[("crusades-new", &["crusades"])]));
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("`crusades-new` is missing"),
            "{found:?}"
        );

        let mut without_core = workspace(&[]);
        without_core.remove(0);
        let found = problems(&without_core);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("`crusades-core` stands"), "{found:?}");
    }
}
