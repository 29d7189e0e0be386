"""Generated from the .proto files beside; `make proto` writes them anew."""
