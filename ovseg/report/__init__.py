"""The presentation of a run: the HTML page, the contact sheet, the summary."""
