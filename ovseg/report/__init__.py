"""What a run shows: the HTML page, the contact sheet, the summary."""
