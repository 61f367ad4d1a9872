"""The stages of the workflow, a module each.

Each reads the files of the stages before it and writes its own, by ``run(config, …)``. The command line,
`remerge <stage>`, is made from their signatures.
"""
