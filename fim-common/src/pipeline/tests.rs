//! The pipeline without a kernel.
