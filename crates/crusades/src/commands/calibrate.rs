//! `crusades calibrate`: limits for a benchmark, from what honest training and cheats come to on this
//! machine. Never writes over a file that it was not told to.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crusades_core::hparams::{Profile, VerificationHparams};
use crusades_evaluate::calibrate::{
    BASELINE_VARIANT, LimitComparison, Variant, builtin_variants, calibrate, compare, measuring,
    read_variants,
};
use crusades_evaluate::calibration::Calibration;
use crusades_evaluate::{Round, base_of, distribution};
use serde::Serialize;

use super::evaluation::{print_json, task_and_settings, unprepared};
use crate::cli::Calibrate;
use crate::complaint::Complaint;
use crate::console::Console;
use crate::exit_code::Code;
use crate::inputs::Rules;
use crate::{output, render};

/// All that was found, in JSON.
#[derive(Debug, Serialize)]
struct Results<'a> {
    /// The file that was written.
    file: &'a Path,
    /// Its drawing.
    svg: &'a Path,
    /// What is in it.
    calibration: &'a Calibration,
    /// Whose fixed limits are compared.
    profile: Profile,
    /// These limits against the honest runs.
    fixed_limits: &'a [LimitComparison],
}

pub(crate) fn run(flags: &Calibrate) -> Result<Code, Complaint> {
    let mut console = Console::new(flags.evaluation.quiet);
    let svg = flags
        .svg
        .clone()
        .unwrap_or_else(|| flags.out.with_extension("svg"));
    if svg == flags.out {
        return Err(Complaint::usage(format!(
            "{} cannot be both the calibration and its drawing",
            svg.display()
        ))
        .help("name another file with --out or --svg"));
    }
    for path in [&flags.out, &svg] {
        check_free(path, flags.force)?;
    }
    let rules = Rules::read(&flags.evaluation.hparams, None, &console)?;
    let variants = chosen(flags)?;
    let open_rules = Rules {
        hparams: measuring(&rules.hparams, flags.runs),
        ..rules.clone()
    };
    let (task, settings) = task_and_settings(&flags.evaluation, &open_rules, &mut console)?;
    let round = Round::prepare(task, settings, &mut |event| console.event(event));
    console.clear();
    let round = round.map_err(|error| unprepared(&error))?;
    let calibration = calibrate(
        &round,
        &rules.hparams,
        &variants,
        flags.jobs,
        &mut |event| console.event(event),
    );
    console.clear();
    let calibration = calibration.map_err(|error| {
        Complaint::infrastructure("nothing was calibrated")
            .because(&error)
            .help("`crusades verify` says more of what a submission does wrong")
    })?;
    let json = serde_json::to_string_pretty(&calibration)
        .map_err(|error| Complaint::infrastructure("no JSON was made").because(&error))?;
    write(&flags.out, &format!("{json}\n"), flags.force)?;
    write(&svg, &distribution(&calibration), flags.force)?;

    let limits = flags.profile.map_or_else(
        || rules.hparams.verification.clone(),
        |profile| VerificationHparams::of(profile.into()),
    );
    let fixed_limits = compare(&limits, &calibration.evidence);
    if flags.json {
        print_json(&Results {
            file: &flags.out,
            svg: &svg,
            calibration: &calibration,
            profile: limits.profile,
            fixed_limits: &fixed_limits,
        })?;
    } else {
        output::print(&render::calibration(
            &calibration,
            limits.profile,
            &fixed_limits,
        ))?;
    }
    console.say(&format!(
        "Written to {}, drawn in {}; name it in hparams as verification.calibration, with a path that starts at their folder",
        flags.out.display(),
        svg.display()
    ));
    unseparated(&calibration, flags.allow_unseparated)
}

/// The variants to run: those that ship and the user's, the baseline always.
fn chosen(flags: &Calibrate) -> Result<Vec<Variant>, Complaint> {
    let mut variants = builtin_variants();
    if let Some(folder) = &flags.variants {
        let own = read_variants(folder).map_err(|error| {
            Complaint::usage(format!(
                "{} is no folder of honest submissions",
                folder.display()
            ))
            .because(&error)
        })?;
        variants.extend(own);
    }
    let asked = |variant: &Variant, text: &String| variant.name.contains(text.as_str());
    if let Some(idle) = flags
        .only
        .iter()
        .find(|text| !variants.iter().any(|variant| asked(variant, text)))
    {
        return Err(
            Complaint::usage(format!("--only {idle}: no variant has that in its name"))
                .help("a calibration that was made before has all names"),
        );
    }
    variants.retain(|variant| {
        variant.name == BASELINE_VARIANT
            || flags.only.is_empty()
            || flags.only.iter().any(|text| asked(variant, text))
    });
    Ok(variants)
}

/// Refuses a result that would fall on another file or into no folder, before anything is measured.
fn check_free(path: &Path, force: bool) -> Result<(), Complaint> {
    let folder = base_of(path);
    if !folder.is_dir() {
        return Err(Complaint::usage(format!(
            "there is no folder {} for the result",
            folder.display()
        )));
    }
    if path.is_dir() {
        return Err(Complaint::usage(format!(
            "{} is a folder, not a file",
            path.display()
        )));
    }
    if !force && path.symlink_metadata().is_ok() {
        return Err(exists(path));
    }
    Ok(())
}

fn exists(path: &Path) -> Complaint {
    Complaint::usage(format!("{} exists", path.display()))
        .help("name another file with --out and --svg, or write over it with --force")
}

/// Writes a file whole or not at all.
fn write(path: &PathBuf, text: &str, force: bool) -> Result<(), Complaint> {
    let failed = |error: &std::io::Error| {
        Complaint::infrastructure(format!("{} could not be written", path.display())).because(error)
    };
    let mut file = tempfile::Builder::new()
        // As any other new file: a result is no secret.
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(base_of(path))
        .map_err(|error| failed(&error))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(|error| failed(&error))?;
    let kept = if force {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    kept.map_err(|error| {
        if error.error.kind() == std::io::ErrorKind::AlreadyExists {
            exists(path)
        } else {
            failed(&error.error)
        }
    })?;
    Ok(())
}

/// Limits that let a cheat pass are an error, unless they were asked for.
fn unseparated(calibration: &Calibration, allowed: bool) -> Result<Code, Complaint> {
    if calibration.not_found.is_empty() || allowed {
        return Ok(Code::Accepted);
    }
    let cheats = calibration.not_found.len();
    let mut complaint = Complaint::infrastructure(format!(
        "with these limits {cheats} of the cheats would be accepted"
    ));
    for cheat in &calibration.not_found {
        complaint = complaint.cause(cheat);
    }
    Err(complaint.help(
        "find the honest variant that is as far off as they are in the table; --allow-unseparated takes the limits as they are",
    ))
}
