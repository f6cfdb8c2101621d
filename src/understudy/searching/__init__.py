"""What a search needs: a budget, a space of students and settings, what each student costs, and a study that many may share."""
