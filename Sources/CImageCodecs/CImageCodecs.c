// CImageCodecs
