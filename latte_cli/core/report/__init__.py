"""`report.html` of a run folder: a page with settings, curves, previews, samples and results."""
