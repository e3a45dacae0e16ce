"""From records to tables, figures and reports, without a model."""
