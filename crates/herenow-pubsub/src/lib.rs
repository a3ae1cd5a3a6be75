//! Topics, local dispatch and the contract of what carries broadcasts between nodes.
