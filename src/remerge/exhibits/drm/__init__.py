"""DRM: Decom-Renorm-Merge, model merging on the right space improves multitasking."""
