"""What a run says about itself: figures, tables, the HTML report and the loggers. Reads results, computes none."""
