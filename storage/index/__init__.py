"""What memory knows of the stored answers: entries, their demand, and how they come from the documents."""
