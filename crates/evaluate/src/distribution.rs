//! A drawing of a calibration: for each variant what its runs came to, and the limits between honest
//! ones and cheats. An SVG that needs no other file; the same calibration gives the same bytes.

use std::fmt::Write as _;

use crate::calibration::{Calibration, Kind, MeasuredRun};

/// Pixels that one variant takes.
const ROW: f64 = 17.0;
/// Pixels between the honest variants and the cheats.
const GAP: f64 = 14.0;
/// Where the rows begin.
const TOP: f64 = 104.0;
/// Pixels below the rows: the axis, its numbers and the legend.
const BOTTOM: f64 = 74.0;
/// Where the first panel begins; left of it are the names.
const LEFT: f64 = 290.0;
const PANEL: f64 = 340.0;
const PANEL_GAP: f64 = 28.0;
const MARGIN: f64 = 20.0;
const WIDTH: f64 = LEFT + 2.0 * PANEL + PANEL_GAP + MARGIN;
/// Smaller values are drawn as one: they are rounding of the comparison itself, and of no matter to any
/// limit.
const LEAST: f64 = 1e-8;
/// Pixels that an axis has for those.
const LEAST_WIDTH: f64 = 56.0;
/// Most numbers that an axis has room for.
const MOST_TICKS: i32 = 8;
/// Characters of a name that there is room for.
const NAME_LENGTH: usize = 42;

/// A blue and a vermilion that people who confuse red and green can tell apart; the markers differ too.
const STYLE: &str = "\
text{font-family:system-ui,sans-serif;font-size:11px;fill:#333}\
.title{font-size:15px;font-weight:600;fill:#111}\
.panel{font-size:12px;font-weight:600;fill:#111}\
.edge{font-weight:700;fill:#000;paint-order:stroke;stroke:#fff;stroke-width:3px}\
.grid{stroke:#e2e2e2}.axis{stroke:#888}\
.limit{stroke:#111;stroke-width:1.5;stroke-dasharray:5 3}\
.honest{fill:none;stroke:#0072b2;stroke-width:1.6}\
.cheat{fill:none;stroke:#d55e00;stroke-width:1.8}";

/// One metric that is drawn.
struct Panel {
    title: &'static str,
    left: f64,
    limit: f64,
    metric: fn(&MeasuredRun) -> Option<f64>,
}

/// All runs of one variant.
struct Row<'a> {
    name: &'a str,
    kind: Kind,
    y: f64,
    runs: Vec<&'a MeasuredRun>,
}

/// The SVG of a calibration.
#[must_use]
pub fn distribution(calibration: &Calibration) -> String {
    let rows = rows(&calibration.evidence);
    let panels = [
        Panel {
            title: "error of the whole update",
            left: LEFT,
            limit: calibration.limits.update_relative_error_max,
            metric: |run| Some(run.update_error),
        },
        Panel {
            title: "largest deviation of a step's coefficient from 1",
            left: LEFT + PANEL + PANEL_GAP,
            limit: calibration.limits.step_coefficient_max_deviation,
            metric: |run| run.coefficient_deviation,
        },
    ];
    let floor = rows.last().map_or(TOP, |row| row.y + ROW / 2.0);
    let mut svg = head(calibration, floor + BOTTOM);
    let edges: Vec<Option<usize>> = panels
        .iter()
        .flat_map(|panel| edges(panel, &rows))
        .collect();
    for (index, row) in rows.iter().enumerate() {
        let class = if edges.contains(&Some(index)) {
            " class=\"edge\""
        } else {
            ""
        };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\"{class}>{}</text>",
            LEFT - 10.0,
            row.y + 4.0,
            escaped(&shortened(row.name))
        );
    }
    for panel in &panels {
        draw(panel, &rows, floor, &mut svg);
    }
    legend(floor + 52.0, &mut svg);
    svg.push_str("</svg>\n");
    svg
}

/// The honest variants and below them the cheats, both in order of their largest update error.
fn rows(evidence: &[MeasuredRun]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for run in evidence {
        match rows
            .iter_mut()
            .find(|row| row.name == run.variant && row.kind == run.kind)
        {
            Some(row) => row.runs.push(run),
            None => rows.push(Row {
                name: &run.variant,
                kind: run.kind,
                y: 0.0,
                runs: vec![run],
            }),
        }
    }
    let largest = |row: &Row<'_>| {
        let errors = row.runs.iter().map(|run| run.update_error);
        errors.fold(0.0, f64::max)
    };
    rows.sort_by(|left, right| {
        let cheats_last = (left.kind == Kind::Cheat).cmp(&(right.kind == Kind::Cheat));
        cheats_last.then(largest(left).total_cmp(&largest(right)))
    });
    let mut y = TOP + ROW / 2.0;
    let mut kind = rows.first().map(|row| row.kind);
    for row in &mut rows {
        if kind != Some(row.kind) {
            kind = Some(row.kind);
            y += GAP;
        }
        row.y = y;
        y += ROW;
    }
    rows
}

/// The rows of the honest variant that is nearest to the limit and of the cheat that is: their values
/// are written down.
fn edges(panel: &Panel, rows: &[Row<'_>]) -> [Option<usize>; 2] {
    let extreme = |kind, of_row: fn(f64, f64) -> f64, is_worse: fn(f64, f64) -> bool| {
        let mut found: Option<(usize, f64)> = None;
        for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.kind == kind) {
            let value = row.runs.iter().filter_map(|run| (panel.metric)(run));
            let Some(value) = value.reduce(of_row) else {
                continue;
            };
            if found.is_none_or(|(_, worst)| is_worse(value, worst)) {
                found = Some((index, value));
            }
        }
        found.map(|(index, _)| index)
    };
    [
        extreme(Kind::Honest, f64::max, |value, worst| value > worst),
        extreme(Kind::Cheat, f64::min, |value, worst| value < worst),
    ]
}

fn head(calibration: &Calibration, height: f64) -> String {
    let benchmark = &calibration.benchmark;
    let machine = &calibration.machine;
    let title = format!(
        "Honest variants and cheats: {}, {} steps of {} x {} tokens",
        benchmark.model, benchmark.steps, benchmark.batch_size, benchmark.sequence_length
    );
    let place = format!(
        "{}, {} {}, PyTorch {}; each mark is one run",
        machine.device,
        machine.threads,
        if machine.threads == 1 {
            "thread"
        } else {
            "threads"
        },
        machine.torch
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
         width=\"{WIDTH:.0}\" height=\"{height:.0}\" role=\"img\">\n"
    );
    let title = escaped(&title);
    let _ = writeln!(svg, "<title>{title}</title>\n<style>{STYLE}</style>");
    // Its own ground, so that it reads on a dark page too.
    let _ = writeln!(svg, "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>");
    let _ = writeln!(
        svg,
        "<text x=\"{MARGIN}\" y=\"28\" class=\"title\">{title}</text>\n\
         <text x=\"{MARGIN}\" y=\"48\">{}</text>",
        escaped(&place)
    );
    svg
}

fn draw(panel: &Panel, rows: &[Row<'_>], floor: f64, svg: &mut String) {
    let values = rows
        .iter()
        .flat_map(|row| row.runs.iter().filter_map(|run| (panel.metric)(run)));
    let axis = Axis::over(values.chain([panel.limit]), panel.left);
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"74\" class=\"panel\">{}</text>",
        panel.left, panel.title
    );
    for (x, label) in axis.ticks() {
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP:.1}\" x2=\"{x:.1}\" y2=\"{floor:.1}\" class=\"grid\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            floor + 16.0
        );
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{floor:.1}\" x2=\"{:.1}\" y2=\"{floor:.1}\" class=\"axis\"/>",
        panel.left,
        panel.left + PANEL
    );
    let x = axis.x(panel.limit);
    let _ = writeln!(
        svg,
        "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{floor:.1}\" class=\"limit\"/>\n\
         <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{}\" class=\"edge\">limit {:.1e}</text>",
        TOP - 8.0,
        TOP - 12.0,
        axis.anchor(x),
        panel.limit
    );
    for row in rows {
        for value in row.runs.iter().filter_map(|run| (panel.metric)(run)) {
            mark(row.kind, axis.x(value), row.y, svg);
        }
    }
    let [honest, cheat] = edges(panel, rows);
    for (index, of_row) in [(honest, f64::max as fn(f64, f64) -> f64), (cheat, f64::min)] {
        let Some(row) = index.and_then(|index| rows.get(index)) else {
            continue;
        };
        let values = row.runs.iter().filter_map(|run| (panel.metric)(run));
        let Some(value) = values.reduce(of_row) else {
            continue;
        };
        // The other marks of an honest row are left of its largest, those of a cheat right of its smallest.
        let x = axis.x(value);
        let (x, anchor) = match row.kind {
            Kind::Honest => (x + 9.0, "start"),
            Kind::Cheat => (x - 9.0, "end"),
        };
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" class=\"edge\">{value:.1e}</text>",
            row.y + 4.0
        );
    }
}

/// A circle for an honest run, a cross for a cheat.
fn mark(kind: Kind, x: f64, y: f64, svg: &mut String) {
    let _ = match kind {
        Kind::Honest => writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" class=\"honest\"/>"
        ),
        Kind::Cheat => writeln!(
            svg,
            "<path d=\"M{:.1} {:.1}l7 7m0 -7l-7 7\" class=\"cheat\"/>",
            x - 3.5,
            y - 3.5
        ),
    };
}

fn legend(y: f64, svg: &mut String) {
    for (kind, x, text) in [
        (Kind::Honest, LEFT + 6.0, "honest variant of the baseline"),
        (Kind::Cheat, LEFT + 206.0, "cheat that leaves work out"),
    ] {
        mark(kind, x, y - 4.0, svg);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{y:.1}\">{text}</text>",
            x + 10.0
        );
    }
}

/// A logarithmic axis of whole decades, with a place of its own for what is below [`LEAST`] where there
/// is such a value.
struct Axis {
    left: f64,
    /// Exponent of the first decade.
    first: i32,
    /// Exponent of the end.
    last: i32,
    /// Whether the left end is for smaller values.
    tiny: bool,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, left: f64) -> Self {
        let (mut least, mut most, mut tiny) = (f64::INFINITY, LEAST, false);
        for value in values {
            if value < LEAST {
                tiny = true;
            } else {
                least = least.min(value);
                most = most.max(value);
            }
        }
        let first = least.min(most).log10().floor();
        let last = most.log10().ceil();
        Self {
            left,
            first: whole(first),
            // One decade at least.
            last: whole(last.max(first + 1.0)),
            tiny,
        }
    }

    fn x(&self, value: f64) -> f64 {
        if value < LEAST {
            return self.left + LEAST_WIDTH / 3.0;
        }
        self.at(value.log10())
    }

    fn at(&self, exponent: f64) -> f64 {
        let decades = f64::from(self.last - self.first);
        let share = (exponent - f64::from(self.first)) / decades;
        let begin = if self.tiny { LEAST_WIDTH } else { 0.0 };
        self.left + begin + share * (PANEL - begin)
    }

    /// Places and numbers of the axis.
    fn ticks(&self) -> Vec<(f64, String)> {
        let stride = (self.last - self.first).div_euclid(MOST_TICKS) + 1;
        let tiny = self.tiny.then(|| {
            (
                self.x(0.0),
                format!("&lt; {}", power_of_ten(whole(LEAST.log10()))),
            )
        });
        let decades = (self.first..=self.last).rev();
        tiny.into_iter()
            .chain(
                decades
                    .step_by(usize::try_from(stride).unwrap_or(1))
                    .map(|exponent| (self.at(f64::from(exponent)), power_of_ten(exponent))),
            )
            .collect()
    }

    /// On which side of `x` a label has room.
    fn anchor(&self, x: f64) -> &'static str {
        if x < self.left + PANEL / 6.0 {
            "start"
        } else if x > self.left + PANEL * 5.0 / 6.0 {
            "end"
        } else {
            "middle"
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the logarithm of a finite number is between -324 and 309"
)]
fn whole(exponent: f64) -> i32 {
    exponent as i32
}

/// `10⁻⁶`, and `1` for the power of 0.
fn power_of_ten(exponent: i32) -> String {
    if exponent == 0 {
        return "1".to_owned();
    }
    let raised = exponent.to_string();
    let raised = raised.chars().map(|character| match character {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        '9' => '⁹',
        _ => '⁰',
    });
    std::iter::once("10".to_owned())
        .chain(raised.map(String::from))
        .collect()
}

/// A name that fits beside the panels: its end says most.
fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME_LENGTH {
        return name.to_owned();
    }
    let kept = name.chars().skip(length + 1 - NAME_LENGTH);
    std::iter::once('…').chain(kept).collect()
}

/// Text as it may stand in XML: without what XML reads as its own or cannot hold.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            control if control.is_control() => out.push('\u{fffd}'),
            plain => out.push(plain),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Axis, NAME_LENGTH, PANEL, distribution, power_of_ten, shortened};
    use crate::calibration::tests::calibration;
    use crate::calibration::{Calibration, Kind, MeasuredRun};

    fn run(variant: &str, kind: Kind, update: f64, coefficient: Option<f64>) -> MeasuredRun {
        MeasuredRun {
            variant: variant.to_owned(),
            kind,
            run: 1,
            update_error: update,
            coefficient_deviation: coefficient,
            tensor_error_over_limit: None,
            weight_error: 0.0,
            loss_difference: 0.0,
            logits_difference: None,
            changed_share: 1.0,
        }
    }

    fn drawn(evidence: Vec<MeasuredRun>) -> (Calibration, String) {
        let calibration = Calibration {
            evidence,
            ..calibration(&[])
        };
        let svg = distribution(&calibration);
        (calibration, svg)
    }

    fn evidence() -> Vec<MeasuredRun> {
        vec![
            run("baseline", Kind::Honest, 0.0, Some(0.0)),
            run("micro_batch", Kind::Honest, 1e-6, Some(3e-5)),
            run("a<b>&\"c\"\u{1}.py", Kind::Honest, 2e-6, None),
            run("last_update", Kind::Cheat, 0.2, Some(1.0)),
            run("hidden", Kind::Cheat, 2e-7, Some(0.5)),
        ]
    }

    /// Fails unless every element is closed in its turn, every attribute quoted, and nothing is left.
    #[track_caller]
    fn check_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = svg;
        while let Some(start) = rest.find('<') {
            assert!(!rest[..start].contains('>'), "{}", &rest[..start]);
            let end = start + rest[start..].find('>').unwrap();
            let tag = &rest[start + 1..end];
            rest = &rest[end + 1..];
            assert!(!tag.contains('<'), "{tag}");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().unwrap());
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert_eq!(rest, "\n");
        for entity in svg.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;"];
            assert!(
                known.iter().any(|name| entity.starts_with(name)),
                "{entity}"
            );
        }
        assert!(!svg.contains(|c: char| c.is_control() && c != '\n'));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn every_run_is_drawn_and_the_edges_are_written_down() {
        let (calibration, svg) = drawn(evidence());
        check_well_formed(&svg);
        assert_eq!(svg, distribution(&calibration));
        // A legend each, and for one run no coefficient.
        assert_eq!(svg.matches("<circle").count(), 1 + 3 + 2);
        assert_eq!(svg.matches("<path").count(), 1 + 2 + 2);
        assert!(svg.contains("a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}.py"));
        for expected in [
            "limit 1.0e-3",
            "limit 2.0e-3",
            ">2.0e-6<",
            ">2.0e-7<",
            ">3.0e-5<",
            ">5.0e-1<",
        ] {
            assert!(svg.contains(expected), "{expected}\n{svg}");
        }
    }

    #[test]
    fn there_is_a_drawing_of_little_evidence_too() {
        check_well_formed(&drawn(Vec::new()).1);
        check_well_formed(&drawn(vec![run("baseline", Kind::Honest, 0.0, None)]).1);
        check_well_formed(&drawn(vec![run("far", Kind::Cheat, 1e300, Some(1e-300))]).1);
    }

    #[test]
    fn an_axis_holds_all_its_values_and_few_numbers() {
        for values in [
            vec![1e-7, 2.0],
            vec![0.5],
            vec![0.0, 1e-3],
            vec![1e-300, 1e300],
            vec![1e-8],
            vec![0.0],
        ] {
            let axis = Axis::over(values.iter().copied(), 10.0);
            for value in &values {
                let x = axis.x(*value);
                assert!((10.0..=10.0 + PANEL).contains(&x), "{value}: {x}");
            }
            let ticks = axis.ticks();
            assert!((2..=10).contains(&ticks.len()), "{}", ticks.len());
        }
        assert_eq!(power_of_ten(-12), "10⁻¹²");
        assert_eq!(power_of_ten(0), "1");
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"x".repeat(99)).chars().count(), NAME_LENGTH);
    }
}
