"""I3D (Carreira & Zisserman 2017; RGB, Kinetics-400), whose logits FVD uses."""
