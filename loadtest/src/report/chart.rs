//! Line charts as SVG, light or dark as the reader's system is.

use std::fmt::Write as _;

use super::axis::Scale;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 280.0;
/// Room for the labels of the ticks, the title with the legend, and air.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 34.0;
/// About the width of a letter.
const LETTER: f64 = 6.4;
/// Colours of lines, light and dark; told apart by people who do not see red and green, too.
const COLORS: [(&str, &str); 4] = [
    ("#0969da", "#58a6ff"),
    ("#bc4c00", "#f0883e"),
    ("#8250df", "#bc8cff"),
    ("#1a7f37", "#3fb950"),
];

/// A chart of lines over one axis.
#[derive(Debug)]
pub(crate) struct Chart {
    /// The stem of its file name.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) title: &'static str,
    /// The axis of the lines' first numbers.
    pub(crate) x: Scale,
    /// The axis of the others.
    pub(crate) y: Scale,
    /// At most four.
    pub(crate) lines: Vec<Line>,
    /// A part of the x axis to mark, and what it is.
    pub(crate) marked: Option<(f64, f64, &'static str)>,
}

/// One line; it has a gap where there is no second number.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its name in the legend.
    pub(crate) name: &'static str,
    /// In rising order of the first.
    pub(crate) points: Vec<(f64, Option<f64>)>,
}

impl Chart {
    /// A file of its own.
    pub(crate) fn file(&self) -> String {
        let style = format!("<style>{}</style>\n", style());
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", self.svg(&style))
    }

    /// An element for a page that has the [`style`] already.
    pub(crate) fn element(&self) -> String {
        self.svg("")
    }

    /// Where a point lies, in the coordinates of the picture.
    pub(crate) fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        (LEFT + self.x.position(x) * wide, HEIGHT - BOTTOM - self.y.position(y) * high)
    }

    fn svg(&self, style: &str) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {WIDTH} \
             {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n\
             {style}<rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>\n\
             <text class=\"title\" x=\"14\" y=\"24\">{title}</text>\n",
            title = escaped(self.title)
        );
        self.draw(&mut svg).expect("a string takes all");
        svg + "</svg>"
    }

    fn draw(&self, svg: &mut String) -> std::fmt::Result {
        self.draw_mark(svg)?;
        self.draw_axes(svg)?;
        self.draw_legend(svg)?;
        for (at, line) in self.lines.iter().enumerate() {
            let path = self.path(line);
            if self.lines.len() == 1 && self.y.is_from_zero() {
                writeln!(svg, "<path class=\"area l0\" d=\"{}\"/>", self.area(line))?;
            }
            writeln!(svg, "<path class=\"line l{at}\" d=\"{path}\"/>")?;
        }
        Ok(())
    }

    fn draw_mark(&self, svg: &mut String) -> std::fmt::Result {
        let Some((from, to, what)) = self.marked else { return Ok(()) };
        let ((from, _), (to, _)) = (self.place((from, 0.0)), self.place((to, 0.0)));
        let (high, width) = (HEIGHT - TOP - BOTTOM, to - from);
        writeln!(
            svg,
            "<rect class=\"mark\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{high}\"/>"
        )?;
        if width < what.len() as f64 * LETTER + 8.0 {
            return Ok(());
        }
        let (x, y) = (from + 2.0, TOP - 5.0);
        writeln!(svg, "<text class=\"faint\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(what))
    }

    fn draw_axes(&self, svg: &mut String) -> std::fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in &self.y.ticks {
            let y = HEIGHT - BOTTOM - self.y.position(*value) * (HEIGHT - TOP - BOTTOM);
            writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>")?;
            let (x, y) = (LEFT - 8.0, y + 4.0);
            writeln!(
                svg,
                "<text class=\"tick end\" x=\"{x}\" y=\"{y:.1}\">{}</text>",
                escaped(label)
            )?;
        }
        for (value, label) in &self.x.ticks {
            let (x, _) = self.place((*value, 0.0));
            let (from, y) = (bottom, bottom + 19.0);
            // A label at the very end would stick out.
            let half = label.chars().count() as f64 * LETTER / 2.0;
            let at = x.min(WIDTH - half - 2.0);
            writeln!(svg, "<path class=\"axis\" d=\"M{x:.1} {from}v4\"/>")?;
            writeln!(
                svg,
                "<text class=\"tick mid\" x=\"{at:.1}\" y=\"{y}\">{}</text>",
                escaped(label)
            )?;
        }
        writeln!(svg, "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>")
    }

    fn draw_legend(&self, svg: &mut String) -> std::fmt::Result {
        let width = |line: &Line| line.name.chars().count() as f64 * LETTER + 30.0;
        let mut x = WIDTH - RIGHT - self.lines.iter().map(width).sum::<f64>() + 8.0;
        for (at, line) in self.lines.iter().enumerate() {
            let (to, text) = (x + 14.0, x + 18.0);
            writeln!(svg, "<path class=\"key l{at}\" d=\"M{x:.1} 20H{to:.1}\"/>")?;
            writeln!(
                svg,
                "<text class=\"tick\" x=\"{text:.1}\" y=\"24\">{}</text>",
                escaped(line.name)
            )?;
            x += width(line);
        }
        Ok(())
    }

    /// The line; a lone point between gaps becomes a dot.
    fn path(&self, line: &Line) -> String {
        let mut path = String::new();
        for run in self.runs(line) {
            for (at, (x, y)) in run.iter().enumerate() {
                let command = if at == 0 { 'M' } else { 'L' };
                write!(path, "{command}{x:.1} {y:.1}").expect("a string takes all");
            }
            if run.len() == 1 {
                path.push_str("h0");
            }
        }
        path
    }

    /// What lies under the line.
    fn area(&self, line: &Line) -> String {
        let mut path = String::new();
        let bottom = HEIGHT - BOTTOM;
        for run in self.runs(line).into_iter().filter(|run| run.len() > 1) {
            write!(path, "M{:.1} {bottom}", run[0].0).expect("a string takes all");
            for (x, y) in &run {
                write!(path, "L{x:.1} {y:.1}").expect("a string takes all");
            }
            write!(path, "V{bottom}Z").expect("a string takes all");
        }
        path
    }

    /// The points between gaps, in the coordinates of the picture.
    fn runs(&self, line: &Line) -> Vec<Vec<(f64, f64)>> {
        let runs = line.points.split(|(_, y)| y.is_none()).filter(|run| !run.is_empty());
        runs.map(|run| run.iter().map(|(x, y)| self.place((*x, y.unwrap_or(0.0)))).collect())
            .collect()
    }
}

/// The rules that all charts share.
pub(crate) fn style() -> String {
    let rules = |paper,
                 ink,
                 faint,
                 grid,
                 axis,
                 mark,
                 color: fn(&(&'static str, &'static str)) -> &'static str| {
        let mut rules = format!(
            ".chart .paper{{fill:{paper}}}.chart text{{fill:{ink}}}.chart .tick,.chart .faint\
             {{fill:{faint}}}.chart .grid{{stroke:{grid}}}.chart .axis{{stroke:{axis}}}\
             .chart .mark{{fill:{mark}}}"
        );
        for (at, colors) in COLORS.iter().enumerate() {
            let color = color(colors);
            write!(rules, ".chart .l{at}{{stroke:{color}}}.chart .area.l{at}{{fill:{color}}}")
                .expect("a string takes all");
        }
        rules
    };
    let light = rules("#ffffff", "#1f2328", "#59636e", "#e4e8ec", "#59636e", "#f3f6f9", |c| c.0);
    let dark = rules("#0d1117", "#f0f6fc", "#9198a1", "#262c34", "#9198a1", "#161b22", |c| c.1);
    format!(
        ".chart text{{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}}\
         .chart .title{{font-size:14px;font-weight:600}}.chart .end{{text-anchor:end}}\
         .chart .mid{{text-anchor:middle}}.chart .line{{fill:none;stroke-width:1.8;\
         stroke-linejoin:round;stroke-linecap:round}}.chart .key{{stroke-width:3}}\
         .chart .area{{stroke:none !important;fill-opacity:.12}}{light}\
         @media (prefers-color-scheme:dark){{{dark}}}"
    )
}

/// Text that may stand in XML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{super::axis::Unit, *};

    fn chart(points: Vec<(f64, Option<f64>)>) -> Chart {
        Chart {
            name: "x",
            title: "A < B & \"C\"",
            x: Scale::exactly(Unit::Seconds, 10.0),
            y: Scale::linear(Unit::Count, 100.0),
            lines: vec![Line { name: "a>b", points }],
            marked: Some((2.0, 8.0, "work")),
        }
    }

    #[test]
    fn lines_have_gaps_and_dots() {
        let points = vec![(0.0, Some(0.0)), (5.0, Some(100.0)), (6.0, None), (10.0, Some(50.0))];
        let chart = chart(points);
        assert_eq!(chart.path(&chart.lines[0]), "M66.0 246.0L402.0 46.0M738.0 146.0h0");
        assert_eq!(chart.area(&chart.lines[0]), "M66.0 246L66.0 246.0L402.0 46.0V246Z");
    }

    #[test]
    fn text_is_escaped_and_the_output_is_the_same_each_time() {
        let of = || chart(vec![(1.0, Some(2.0)), (2.0, Some(3.0))]).file();
        assert_eq!(of(), of());
        assert!(of().contains("A &lt; B &amp; &quot;C&quot;") && of().contains("a&gt;b"));
        assert!(of().starts_with("<?xml") && of().contains("prefers-color-scheme:dark"));
        assert!(!chart(vec![]).element().contains("<style>"));
    }

    #[test]
    fn a_chart_without_points_is_still_a_chart() {
        let svg = chart(vec![]).file();
        assert!(svg.contains("<path class=\"line l0\" d=\"\"/>") && svg.ends_with("</svg>\n"));
    }
}
