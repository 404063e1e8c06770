"""Pictures as files and on sheets: settings inside them, signatures, contact sheets, films. Plain files: no torch."""
