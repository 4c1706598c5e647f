"""What is made of records: statistics, tables, plots. Imports no engine."""
