"""The stages of the workflow, one module each.

The function ``run(config, …)`` reads the files of earlier stages and writes its own. The commands
`remerge <stage>` are made from their signatures.
"""
