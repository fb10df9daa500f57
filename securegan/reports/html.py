"""The report: one HTML file that needs nothing but itself."""

import base64
import re
from functools import cache

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from securegan.reports.figures import Plots, draw_all
from securegan.reports.glossary import DASH
from securegan.reports.protocol import bad_files, facts
from securegan.reports.redaction import redacted_command
from securegan.reports.results import RunResults, failed_first
from securegan.reports.table import further_table, main_table
from securegan.reports.verdict import judge_run

MAX_BAD_FILES = 200  # listed by name; the counts are always whole


def render(results: RunResults, plots: Plots | None = None) -> str:
    """The report of a run as HTML; figures that are not handed over are drawn."""
    bad_sentence, bad = bad_files(results)
    command = results.environment.get("command")
    return _template().render(
        title=_title(results),
        folder=results.folder.name,
        verdict=judge_run(results),
        groups=main_table(results),
        further=further_table(results),
        figures=results.headline,
        epoch=DASH if results.headline.epoch is None else results.headline.epoch,
        seed="not recorded" if results.seed is None else results.seed,
        facts=facts(results),
        notes=results.notes,
        command=redacted_command(str(command)) if command else "",
        plots=plots or draw_all(results),
        checks=failed_first(results.checks),
        failed=len(results.violations),
        judged=sum(check.passed is not None for check in results.checks),
        audit=results.audit,
        release=results.release,
        audited=failed_first(results.audit.checks) if results.audit else [],
        bad_sentence=bad_sentence,
        bad=bad[:MAX_BAD_FILES],
        bad_more=max(0, len(bad) - MAX_BAD_FILES),
        config=yaml.safe_dump(results.config, sort_keys=False, allow_unicode=True) if results.config else "",
    )


def _title(results: RunResults) -> str:
    """What was trained on what, as far as the run says so."""
    model = results.config.get("model")
    name = model.get("name") or str(model.get("_target_", "")).rsplit(".", 1)[-1] if isinstance(model, dict) else model
    data = results.part("data").get("name") or ""
    return " on ".join(str(word) for word in (name or "Generator", data) if word)


def _breakable(key: str) -> Markup:
    """A key that may be broken after its slashes and underscores."""
    return Markup(re.sub(r"([/_])", r"\1<wbr>", str(escape(key))))


@cache
def _template() -> Template:
    """Everything that a run wrote is text, never markup; a name the template lacks is an error."""
    environment = Environment(
        loader=PackageLoader("securegan.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    return environment.get_template("report.html.j2")
