"""The costly steps of an image as two C++ ops, where they could be built.

They give the very bits that TensorFlow's own ops give, in less time. So who has them
uses them, who has not does without, and a run may go from one to the other.

    build      compiles them, and compares them with TensorFlow's ops
    library    finds and loads them, and says where they are in use
    images     records to images: a whole group in one op, from bytes to what is drawn
    augment    RandAugment's ops, all that are drawn for an image at once, where a
               user's own function calls them
"""
