"""`report.html` of a run folder: one page of its settings, curves, previews, samples and figures."""
