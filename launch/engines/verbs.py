"""What `python -m launch.job` does with an engine."""

from common import console
from common.errors import UserError
from launch.engines.engine import Engine
from launch.engines.plan import Plan
from launch.job.job_file import Job, new_submission


def render(engine: Engine, job: Job) -> None:
    """Print what the engine is given; the last line says who has checked it."""
    text = engine.render(job, new_submission(job.name))
    print(text, end="")
    _say_checked(engine.check(text, job))


def do(verb: str, engine: Engine, job: Job, *, dry_run: bool) -> None:
    """Submit a job, or look at it, or end it.

    Args:
      verb: submit, status, logs or down.
      engine: whose plan is carried out, or printed where it is for a person.
      job: which.
      dry_run: whether to print any plan.

    Raises:
      UserError: the engine would not take the job, or a command has failed.
    """
    if verb == "submit":
        submission = new_submission(job.name)
        plan = engine.submit(job, submission)
        checked = engine.check(engine.render(job, submission), job)
        if checked is None and isinstance(plan, Plan) and not dry_run:
            raise UserError(
                "nothing is submitted unchecked, and what checks it is not installed: "
                "make launch"
            )
        _say_checked(checked)
    else:
        ways = {"status": engine.status, "logs": engine.logs, "down": engine.down}
        plan = ways[verb](job)
    if isinstance(plan, str):
        print(plan, end="")
        console.say("printed for a person to run; nothing was run")
    elif dry_run:
        print(plan.as_bash(), end="")
    else:
        plan.run()
        for line in plan.afterwards:
            console.say(line)


def _say_checked(who: str | None) -> None:
    console.say(f"checked by {who}" if who else "not checked: make launch")
