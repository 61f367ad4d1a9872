"""Merges by other tools: rules of the user's own, named in the configuration under `rules`.

Each writes external/<variant>/<task+task>/, checkpoints of the base's architecture; the variant is the file's name.
"""

for file in CONFIG.rules:

    include: str(file)
