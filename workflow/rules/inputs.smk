"""The inputs of rules, and everything else that they depend on, as functions of their wildcards."""


def selection_of(plan, variant):
    """The file of a choice."""
    name = variant.name if plan == "subsets" else f"{plan}/{variant.name}"
    return f"{B}/selection/{name}.json"


def tasks_of(cases):
    """The tasks that merges are made from or judged on."""
    return sorted({task for case in cases for task in [*case.tasks, *case.judged]})


def experts_of(tasks):
    """The inputs of every merge of these tasks."""
    return [
        f"{B}/base.json",
        *expand(f"{B}/experts/{{task}}.json", task=tasks),
        *noted(*expand(f"{B}/data/{{task}}/test.parquet", task=tasks)),
        *expand(f"{B}/scores/{{task}}.json", task=tasks),
    ]


def needed_by(variant, tasks):
    """Files that a variant's method needs from experts besides their weights."""
    known = CONFIG.known[variant.method]
    if known.learned:
        kinds = ["", *(f"@{kind}" for kind in CONFIG.stand_ins_of(variant))]
        files = expand(f"{B}/references/{{task}}{{kind}}.safetensors", task=tasks, kind=kinds)
        return [*expand(f"{B}/references/{{task}}.json", task=tasks), *noted(*files)]
    kind = known.statistics
    return noted(*expand(f"{B}/statistics/{{task}}/{kind}.safetensors", task=tasks)) if kind else []


def files_of(*modules):
    """The code that a stage's results depend on: modules of remerge and their imports."""
    return list(map(str, dependence.closure(*modules)))


def texts_of(files):
    """A digest of code, as a parameter: times of change do not tell of an edit during a job, or one put back."""
    return configuration.digest([Path(file).read_text("utf-8") for file in files])


def code_of(batch):
    """The code that a batch's choices and merges, and their scores, depend on."""
    method = batch.method
    plans = {plan for plan, _ in batch.choices} | {CONFIG.groups(v)[group] for v, group in batch.merges}
    merging = [file for plan in sorted(plans) for file in dependence.merging(plan)]
    if method in CONFIG.external:
        return files_of(*SCORING, *merging)
    variants = [variant for variant in CONFIG.merge.variants if variant.method == method]
    over = {written for v in variants for written in CONFIG.over(v)}
    files = {file for given in over for file in dependence.sources_of(method, {"over": given})}
    return files_of(*SCORING, *sorted(files), *merging)


def settings_of_task(wildcards):
    """A digest of everything that a task's own files depend on, besides their inputs."""
    return configuration.digest(CONFIG.task(wildcards.task), CONFIG.seed)


def noted(*files):
    """Files without a record of their own, and the notes made with them."""
    return [path for file in files for path in (file, f"{file}.json")]


def source_of_task(wildcards):
    """A digest of a local source of data, so that a replaced source is read again."""
    return configuration.digest(contents.of_source(CONFIG.task(wildcards.task).source))


def source_of_base(wildcards):
    """The same for a local base; see `source_of_task`."""
    return made.content_of(CONFIG.folder, "base", CONFIG.base.source)


def source_of_expert(wildcards):
    """The same for an existing expert."""
    source = training.existing(CONFIG, wildcards.task)
    return made.content_of(CONFIG.folder, wildcards.task, source)


def tasks_of_expert(wildcards):
    """The tasks whose inputs an expert is trained on; tau_jp's penalty uses those of all others."""
    read = {*training.tasks_of(CONFIG, wildcards.task), *training.others_of(CONFIG, wildcards.task)}
    return [task for task in TASKS if task in read]


def settings_of_expert(wildcards):
    """A digest of everything that an expert depends on, besides its inputs."""
    parts = [CONFIG.finetune, CONFIG.seed, CONFIG.threads, CONFIG.base]
    return configuration.digest(parts, [CONFIG.tasks[task] for task in tasks_of_expert(wildcards)])


def inputs_of_references(wildcards):
    """The validation examples of a task, and of the task whose inputs stand in for its own."""
    others = [CONFIG.next_task(wildcards.task)] if "other" in CONFIG.stand_ins else []
    return noted(*expand(f"{B}/data/{{task}}/validation.parquet", task=[wildcards.task, *others]))


def data_of_expert(wildcards):
    """The splits on which an expert is trained, and its training is watched."""
    tasks, splits = tasks_of_expert(wildcards), ["train", "validation"]
    return noted(*expand(f"{B}/data/{{task}}/{{split}}.parquet", task=tasks, split=splits))


def made_by(batch):
    """The files that a batch writes."""
    return [
        *(selection_of(plan, variant) for plan, variant in batch.choices),
        *(f"{B}/merges/{variant.name}/{group}.jsonl" for variant, group in batch.merges),
    ]


def read_for(batch):
    """The files that make and judge a batch's choices and merges, and choices made by other batches."""
    read = [path for plan, variant in batch.choices for path in chosen_from(plan, variant)]
    read += [path for variant, group in batch.merges for path in merged_from(variant, group)]
    own = made_by(batch)
    return [path for path in dict.fromkeys(read) if path not in own]


def chosen_from(plan, variant):
    """The files for a choice: those of the merges on which it is tuned."""
    tasks = tasks_of(CONFIG.tuning(variant, plan))
    validation = noted(*expand(f"{B}/data/{{task}}/validation.parquet", task=tasks))
    return [*experts_of(tasks), *validation, *needed_by(variant, tasks)]


def merged_from(variant, group):
    """The files that make and judge a variant's merges of a group."""
    plan = CONFIG.groups(variant)[group]
    cases = CONFIG.cases(plan)[group]
    if variant.name in CONFIG.external:
        made = [f"{B}/external/{variant.name}/{case.name}" for case in cases]
    else:
        made = needed_by(variant, tasks_of(cases))
    tuned = [selection_of(plan, variant)] if CONFIG.is_tuned(variant) else []
    return [*experts_of(tasks_of(cases)), *made, *tuned]


def settings_of(batch):
    """A digest of everything that a batch's records depend on, besides their inputs."""
    variants = [variant for _, variant in batch.choices] + [variant for variant, _ in batch.merges]
    each = {variant.name: [variant, CONFIG.params(variant)] for variant in variants}
    parts = [
        CONFIG.learning,
        CONFIG.merge.delta_dtype,
        CONFIG.seed,
        CONFIG.plans,
        CONFIG.evaluation.batch_size,
    ]
    parts += [CONFIG.tune] if any(map(CONFIG.is_searched, variants)) else []
    parts += [CONFIG.evaluation.watch] if any(map(CONFIG.is_learned, variants)) else []
    return configuration.digest(each, parts)


def parts_of_export(variant):
    """The parts of an export, and the record quoted by its card."""

    def parts(wildcards):
        try:
            tasks = CONFIG.subset(wildcards.subset)
            if variant.name in CONFIG.external:
                raise UserError(
                    f"{variant.name}: its merges lie in {B}/external/{variant.name}, as its rule wrote them"
                )
        except UserError as error:
            refuse(error)
        return [
            *experts_of(tasks),
            *needed_by(variant, tasks),
            f"{B}/merges/{variant.name}/{len(tasks)}.jsonl",
        ]

    return parts


def no_such_export(wildcards):
    """The refusal of an export by a variant that this benchmark has not."""
    try:
        CONFIG.variant(wildcards.unknown)
    except UserError as error:
        refuse(error)


def read_by(kind, names):
    """The records that a table or figure reads, one of those that this benchmark makes."""

    def read(wildcards):
        if wildcards.name not in names:
            said = f"unknown {kind} {wildcards.name!r} of {CONFIG.benchmark}, known: {', '.join(names)}"
            refuse(UserError(said))
        return [path for what in EXHIBITS[wildcards.name].reads for path in RECORDS[what]]

    return read


def code_of_exhibit(wildcards):
    """The files from which an exhibit is drawn, among them a paper's numbers."""
    return list(map(str, EXHIBITS[wildcards.name].files))
