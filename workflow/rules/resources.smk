"""The resources that jobs ask for, by their wildcards and the attempt."""

GPU = 0 if CONFIG.device == "cpu" else 1
"""How many a job that computes asks for; where the profile does not say how many there are, it counts for nothing."""

NEEDS = Needs(CONFIG, GPU > 0 and (clustered or bool(devices.visible())))

if not clustered and "mem_mb" not in workflow.global_resources:
    # On one machine, jobs run at once as far as its memory holds them: the largest alone.
    workflow.register_resource("mem_mb", room())

OWN = workflow.is_main_process and not clustered
TOLD = [workflow.global_resources["mem_mb"].value / 1000 if OWN else math.inf]
"""The gigabytes of memory that there are, and those of larger jobs of which a note was made."""

DAY = 24 * 60
"""Minutes that no job asks for more than: a scheduler refuses what is longer than its queue allows, and a job whose time runs
out goes on, as it is tried again, from its journal or checkpoint."""

FIRST = 10**9
"""The priority of jobs that others wait for."""


def of_stage(name):
    """The needs of a stage's jobs."""
    need = NEEDS.stage(name)
    return lambda wildcards: need


def of_expert(wildcards):
    """The needs of an expert."""
    return NEEDS.expert(wildcards.task)


def of_batch(batch, jobs):
    """The needs of each of so many jobs that make a batch."""
    need = NEEDS.batch(batch)
    return lambda wildcards: replace(need, minutes=math.ceil(need.minutes / jobs))


def memory(need):
    """The megabytes that a scheduler gives a job: as much again each time that they did not suffice."""

    def asked(wildcards, attempt):
        most = need(wildcards).memory
        if round(most / 1000, 1) > TOLD[-1]:
            TOLD.append(round(most / 1000, 1))
            note(
                f"a job may take {TOLD[-1]} GB of memory, and there are {TOLD[0]:.1f} GB: it runs alone, and "
                "ends with status 137 where they do not suffice (remerge check tells what jobs need)"
            )
        return attempt * most

    return asked


def minutes(need):
    """The minutes that a scheduler gives a job, likewise, up to a day."""
    return lambda wildcards, attempt: min(DAY, attempt * need(wildcards).minutes)


def longest_first(need):
    """The priority of a job: of those that are ready, the longest begins first, so that none is left to run alone."""
    return lambda wildcards: need(wildcards).minutes
