"""Pages, plots and tables that commands write and print for people."""
