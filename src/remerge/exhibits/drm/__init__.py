"""DRM: Decom-Renorm-Merge, model merging on the right space improves multitasking.

Figures 1 and 4 are drawings, and Table 9 lists sizes of datasets, which are part of
`config/drm-llama-lora.yaml`.
"""
