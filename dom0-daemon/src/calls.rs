//! Calls between qubes: policy, prompts and the ports that carry the data.
