"""What the benchmarks share: realistic frames, and the readers the archiver is compared with."""
