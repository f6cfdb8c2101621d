"""What a search needs: a budget, a space of students and settings, the costs of students, and a study that processes may share."""
