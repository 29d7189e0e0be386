"""What `import workbench as wb` offers: the five things a user does, for notebooks and scripts."""
