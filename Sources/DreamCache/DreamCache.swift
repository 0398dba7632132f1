// DreamCache
