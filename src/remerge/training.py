"""The training of each expert, named after its task, and of `multitask`: on what, and by which settings."""

from remerge.config import Config, Finetune


def existing(config: Config, expert: str) -> str | None:
    """The source of an expert that is read, not trained; None for one that is trained."""
    return None if expert == "multitask" else config.task(expert).expert


def tasks_of(config: Config, expert: str) -> list[str]:
    """The tasks that an expert is trained on."""
    return list(config.tasks) if expert == "multitask" else [expert]


def others_of(config: Config, expert: str) -> list[str]:
    """The tasks on whose inputs tau_jp's penalty is computed."""
    others = {*config.tasks} - {*tasks_of(config, expert)}
    return sorted(others) if config.finetune.recipe == "tau_jp" else []


def settings_of(config: Config, expert: str) -> Finetune:
    """The settings of an expert's training: on several tasks it takes more steps."""
    settings = config.finetune
    if expert != "multitask":
        return settings
    steps = settings.multitask_steps or settings.steps * len(config.tasks)
    return settings.model_copy(update={"steps": steps})
