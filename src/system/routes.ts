/** stub, being written */
export {};
