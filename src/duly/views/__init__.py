"""What people look at: pure shapes, made of what stores keep. The command line, the HTTP API and the pages show these."""
